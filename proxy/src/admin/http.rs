//! HTTP for operators: health, metrics, and the door of the API.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use super::quota::{self, Quotas};
use super::reply::error;
use crate::domain::Secret;
use crate::metrics::exporter::Exporter;

/// The longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the routes answer from.
pub struct Http {
    /// The bearer token of the API. Without one nobody is let in.
    pub token: Arc<ArcSwap<Secret>>,
    /// The metrics.
    pub exporter: Exporter,
    /// Whether clients are let in, from what is known already: a probe asks nobody.
    pub readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// The quotas.
    pub quotas: Quotas,
}

/// Whether it makes sense to send clients here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They are let in.
    Ready,
    /// Nobody new is let in.
    Stopping,
    /// They would be told 57P03.
    UpstreamUnreachable,
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, http: Arc<Http>) -> std::io::Result<()> {
    let api = quota::routes().fallback(unknown_route).layer(middleware::from_fn_with_state(http.clone(), authorize));
    let routes = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .nest("/api", api)
        .fallback(unknown_route)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(in_time))
        .with_state(http);
    axum::serve(listener, routes).await
}

async fn ready(State(http): State<Arc<Http>>) -> Response {
    match (http.readiness)() {
        Readiness::Ready => "ready\n".into_response(),
        Readiness::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response(),
        Readiness::UpstreamUnreachable => (StatusCode::SERVICE_UNAVAILABLE, "upstream unreachable\n").into_response(),
    }
}

async fn metrics(State(http): State<Arc<Http>>) -> Response {
    match http.exporter.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(problem) => {
            tracing::error!(%problem, "the metrics couldn't be gathered");
            error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "the metrics couldn't be gathered")
        }
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    let late = |_| error(StatusCode::SERVICE_UNAVAILABLE, "TIMEOUT", "the request took too long");
    tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(late)
}

async fn authorize(State(http): State<Arc<Http>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    let given = given.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    let token = http.token.load();
    let token = token.expose().as_bytes();
    if token.is_empty() || !bool::from(given.ct_eq(token)) {
        return error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "a bearer token is required");
    }
    next.run(request).await
}

async fn unknown_route() -> Response {
    error(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such route")
}
