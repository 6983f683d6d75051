//! How the API answers: JSON, and errors of one shape.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// `{"error": CODE, "message"}`.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": code, "message": message}))).into_response()
}

/// The request can't be what it says.
pub(super) fn bad_request(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
}

/// There is no such thing.
pub(super) fn not_found(message: &str) -> Response {
    error(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

/// Something outside failed; a retry may succeed.
pub(super) fn unavailable(message: &str) -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
}
