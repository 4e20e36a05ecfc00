//! What goes wrong in an HTTP request, with status, a word for scripts and a sentence for people.

use crate::accounts::AccountError;
use crate::destinations::DestinationError;
use crate::enrolment::EnrolError;
use crate::secrets::SecretsError;
use crate::sessions::SessionError;
use crate::store::StoreError;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::error::Error;
use std::time::Duration;

/// A refused or failed request.
#[derive(Debug, Clone)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// A word for scripts.
    pub error: &'static str,
    /// A sentence for people, with what to do.
    pub detail: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem with this status, word and sentence.
    pub fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self { status, error, detail: detail.into(), retry_after: None }
    }

    /// Nobody is logged in.
    pub fn log_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not-logged-in", "log in first")
    }

    /// The request comes from elsewhere.
    pub fn forged() -> Self {
        let detail = "the request did not come from this relay's own page; reload the page and try again";
        Self::new(StatusCode::FORBIDDEN, "forged", detail)
    }

    /// Nothing is there.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("there is no such {what}"))
    }

    /// The request cannot be read.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// The relay's own fault: logged here, once, with its chain. A full disk is named, because the asker can do something.
    pub(crate) fn ours(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(link) = cause {
            if let Some(full @ StoreError::DiskFull { .. }) = link.downcast_ref::<StoreError>() {
                tracing::warn!(error, "request refused");
                return Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", full.to_string());
            }
            cause = link.source();
        }
        tracing::error!(error, "request failed");
        let detail = "the relay could not do this; see its log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({ "error": self.error, "detail": self.detail }));
        let mut response = (self.status, body).into_response();
        // The pages' middleware shows it as a page.
        response.extensions_mut().insert(self.clone());
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        }
        response
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        let (status, word) = match &error {
            SessionError::PeerNoDevice { .. } => (StatusCode::NOT_FOUND, "no-device"),
            SessionError::PeerNoDestination { .. } => (StatusCode::BAD_REQUEST, "no-destination"),
            SessionError::PeerOffline { .. } => (StatusCode::CONFLICT, "offline"),
            SessionError::PeerBusy { .. } => (StatusCode::CONFLICT, "busy"),
            SessionError::PeerIdle { .. } => (StatusCode::CONFLICT, "idle"),
            SessionError::PeerTooMany { .. } | SessionError::PeerSpec(_) => (StatusCode::BAD_REQUEST, "bad-request"),
            SessionError::NoPort => (StatusCode::SERVICE_UNAVAILABLE, "no-port"),
            SessionError::Directory { .. } | SessionError::Store(_) | SessionError::Secrets(_) => {
                return Self::ours(&error);
            }
        };
        Self::new(status, word, error.to_string())
    }
}

impl From<EnrolError> for Problem {
    fn from(error: EnrolError) -> Self {
        match &error {
            EnrolError::Name => Self::bad_request(error.to_string()),
            EnrolError::NoDevice { .. } => Self::new(StatusCode::NOT_FOUND, "no-device", error.to_string()),
            EnrolError::TooManyClaims | EnrolError::TooManyDevices => {
                Self::new(StatusCode::CONFLICT, "too-many", error.to_string())
            }
            _ => Self::ours(&error),
        }
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        match &error {
            AccountError::PeerWrong => Self::new(StatusCode::UNAUTHORIZED, "wrong-password", error.to_string()),
            AccountError::PeerTooMany { wait } => {
                let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tries", error.to_string());
                Self { retry_after: Some(*wait), ..problem }
            }
            _ => Self::ours(&error),
        }
    }
}

impl From<DestinationError> for Problem {
    fn from(error: DestinationError) -> Self {
        match &error {
            DestinationError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "no-destination", error.to_string()),
            DestinationError::TooMany => Self::new(StatusCode::CONFLICT, "too-many", error.to_string()),
            DestinationError::Store(_) | DestinationError::Secrets(_) => Self::ours(&error),
            _ => Self::bad_request(error.to_string()),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::ours(&error)
    }
}

impl From<SecretsError> for Problem {
    fn from(error: SecretsError) -> Self {
        Self::ours(&error)
    }
}
