//! Logging in and out.

use super::render;
use crate::app::App;
use crate::dashboard::assets;
use crate::dashboard::guard::{Asker, COOKIE_GONE, OpenForm, SignedForm, cookie_of};
use crate::dashboard::words::sentence;
use crate::problem::Problem;
use askama::Template;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use protocol::Secret;
use serde::Deserialize;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    next: String,
    name: String,
    error: Option<String>,
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct NextQuery {
    #[serde(default)]
    next: String,
}

/// Only a path of this relay is gone to after the log-in.
fn safe_next(next: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    if next.starts_with('/') && !next.starts_with("//") && next.chars().all(plain) {
        next.to_owned()
    } else {
        "/".to_owned()
    }
}

pub(in crate::dashboard) async fn login_page(Query(query): Query<NextQuery>) -> Response {
    render(&LoginPage { next: safe_next(&query.next), name: String::new(), error: None })
}

pub(in crate::dashboard) async fn log_in(
    State(app): State<App>,
    Asker(from): Asker,
    OpenForm(fields): OpenForm,
) -> Result<Response, Problem> {
    let (name, password) = (fields.get("name").unwrap_or_default(), fields.get("password").unwrap_or_default());
    let next = safe_next(fields.get("next").unwrap_or_default());
    match app.accounts.log_in(name, Secret::new(password), from).await {
        Ok((token, _)) => Ok(([(header::SET_COOKIE, cookie_of(&token, &app))], Redirect::to(&next)).into_response()),
        Err(error) => {
            let problem = Problem::from(error);
            if problem.status == StatusCode::INTERNAL_SERVER_ERROR {
                return Err(problem);
            }
            let page = LoginPage { next, name: name.to_owned(), error: Some(sentence(&problem.detail)) };
            Ok((problem.status, render(&page)).into_response())
        }
    }
}

pub(in crate::dashboard) async fn log_out(
    State(app): State<App>,
    SignedForm(login, _): SignedForm,
) -> Result<Response, Problem> {
    app.accounts.log_out(&login).await?;
    Ok(([(header::SET_COOKIE, COOKIE_GONE)], Redirect::to("/login")).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_leads_only_to_pages_of_this_relay() {
        assert_eq!(safe_next("/streams/abc-1"), "/streams/abc-1");
        for bad in ["//evil.example", "https://evil.example", "", "/\\evil", "/a?b=//c"] {
            assert_eq!(safe_next(bad), "/", "{bad}");
        }
    }
}
