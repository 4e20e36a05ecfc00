//! The pages' handlers and their templates' views: a file for each section of the menu. Here is what all pages have.

pub(super) mod destinations;
pub(super) mod devices;
pub(super) mod login;
pub(super) mod streams;

use super::assets;
use super::guard::Operator;
use super::words::sentence;
use crate::app::App;
use crate::problem::Problem;
use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

/// What every page's frame needs.
pub(super) struct Frame {
    pub(super) title: String,
    pub(super) section: &'static str,
    pub(super) user: String,
    pub(super) csrf: String,
    /// Address of the page's events; empty for none.
    pub(super) follow: String,
    pub(super) notice: String,
}

#[derive(Template)]
#[template(path = "parts/notice.html")]
struct NoticePart {
    notice: Option<(&'static str, String)>,
}

/// What every page says above all else, where there is something to say.
pub(in crate::dashboard) fn notice_fragment(app: &App) -> (&'static str, String) {
    ("notice", fragment(&NoticePart { notice: crate::retention::disk_notice(&app.config) }))
}

impl Frame {
    pub(super) fn new(app: &App, login: &Operator, section: &'static str, title: impl Into<String>) -> Self {
        let csrf = login.0.csrf.reveal().to_owned();
        let notice = notice_fragment(app).1;
        Self { title: title.into(), section, user: login.0.user.clone(), csrf, follow: String::new(), notice }
    }

    pub(super) fn following(mut self, address: String) -> Self {
        self.follow = address;
        self
    }
}

pub(super) fn render(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => Problem::ours(&error).into_response(),
    }
}

pub(super) fn fragment(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| {
        tracing::error!(%error, "a template failed");
        String::new()
    })
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    status: u16,
    title: &'a str,
    detail: String,
}

/// A problem as a page.
pub(in crate::dashboard) fn problem(problem: &Problem) -> Response {
    let title = match problem.status {
        StatusCode::NOT_FOUND => "Not here",
        StatusCode::CONFLICT => "Not now",
        StatusCode::FORBIDDEN => "Not from there",
        StatusCode::BAD_REQUEST => "Not like that",
        _ => "That did not work",
    };
    let status = problem.status.as_u16();
    let page = ProblemPage { status, title, detail: sentence(&problem.detail) };
    (problem.status, render(&page)).into_response()
}
