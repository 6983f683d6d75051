//! Quotas over HTTP: what a workspace uses, its limits, and whether something would fit.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::http::Http;
use super::reply::{bad_request, not_found, unavailable};
use crate::control::quota_store::{self, Wanted};
use crate::control::{self, ControlTarget, Snapshot, StoreError};
use crate::domain::WorkspaceId;
use crate::quota::{Accounts, Definitions, Refusal, ResourceId, Usage};

/// How long a change of limits may take until this proxy holds to it.
const IN_FORCE: Duration = Duration::from_secs(8);

/// What the routes answer from.
pub struct Quotas {
    /// The books.
    pub accounts: Arc<Accounts>,
    /// Which workspaces there are.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where limits are stored.
    pub control: ControlTarget,
}

/// The routes below `/api`.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/workspaces/{id}/quota", get(show).put(set))
        .route("/workspaces/{id}/quota/validate", post(validate))
}

/// An answer, or the error that stands in its place.
type Answer = Result<Response, Response>;

async fn show(State(http): State<Arc<Http>>, Path(id): Path<String>) -> Answer {
    let workspace = http.quotas.workspace(&id)?;
    http.quotas.report(workspace).await
}

async fn set(State(http): State<Arc<Http>>, Path(id): Path<String>, body: Result<Bytes, BytesRejection>) -> Answer {
    let quotas = &http.quotas;
    let workspace = quotas.workspace(&id)?;
    let wanted = wanted(&object(body)?, &quotas.accounts.definitions())?;
    let mut client = control::connect(&quotas.control).await.map_err(failed)?;
    quota_store::set_limits(&mut client, workspace, &wanted).await.map_err(failed)?;
    let holds = |definitions: &Definitions| {
        let limit = |wanted| match wanted {
            Wanted::AtMost(limit) => Some(Some(limit)),
            Wanted::Unlimited => Some(None),
            Wanted::Default => None,
        };
        wanted.iter().all(|(resource, wanted)| definitions.own_limit(workspace, *resource) == limit(*wanted))
    };
    if !quotas.accounts.defined(holds, IN_FORCE).await {
        return Err(unavailable("the limits are stored, and this proxy hasn't heard of it yet"));
    }
    quotas.report(workspace).await
}

async fn validate(
    State(http): State<Arc<Http>>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (quotas, accounts) = (&http.quotas, &http.quotas.accounts);
    let workspace = quotas.workspace(&id)?;
    let body = object(body)?;
    let resource = resource(&body, &accounts.definitions())?;
    let Some(increment) = body.get("increment").and_then(Value::as_u64) else {
        return Err(bad_request("`increment` must be a whole number, 0 or more"));
    };
    accounts.validate(workspace, resource, increment).await.map_err(|refusal| refused(&refusal))?;
    let usage = accounts.usage(workspace).into_iter().find(|usage| usage.resource == resource);
    let usage = usage.ok_or_else(|| not_found("the resource is gone"))?;
    let answer = json!({
        "allowed": true, "currentUsage": usage.used, "limit": usage.limit, "remaining": remaining(&usage),
    });
    Ok(Json(answer).into_response())
}

impl Quotas {
    fn workspace(&self, id: &str) -> Result<WorkspaceId, Response> {
        let known = id.parse().ok().filter(|id| self.snapshot.load().workspace(*id).is_some());
        known.ok_or_else(|| not_found("there is no such workspace"))
    }

    async fn report(&self, workspace: WorkspaceId) -> Answer {
        let usage = self.accounts.counted_usage(workspace).await.map_err(|refusal| refused(&refusal))?;
        Ok(Json(json!({"quotas": usage.iter().map(as_json).collect::<Vec<_>>()})).into_response())
    }
}

/// One resource's usage. A script reads it, from HTTP and from `pgcordon quota show --json`.
pub fn as_json(usage: &Usage) -> Value {
    let percent = usage.limit.map(|limit| match limit {
        0 => 100.0,
        limit => (usage.used as f64 / limit as f64 * 1000.0).round() / 10.0,
    });
    json!({
        "resourceType": &*usage.name,
        "limit": usage.limit,
        "currentUsage": usage.used,
        "remaining": remaining(usage),
        "percentUsed": percent,
        "resetsAt": usage.resets_at,
    })
}

fn remaining(usage: &Usage) -> Option<u64> {
    usage.limit.map(|limit| limit.saturating_sub(usage.used))
}

fn object(body: Result<Bytes, BytesRejection>) -> Result<Value, Response> {
    let body = body.map_err(|rejection| {
        super::reply::error(rejection.status(), "BAD_REQUEST", "the body can't be read, or is too long")
    })?;
    let value: Value = serde_json::from_slice(&body).map_err(|_| bad_request("the body isn't JSON"))?;
    value.is_object().then_some(value).ok_or_else(|| bad_request("the body must be an object"))
}

fn resource(item: &Value, definitions: &Definitions) -> Result<ResourceId, Response> {
    let name = item.get("resourceType").and_then(Value::as_str);
    let name = name.ok_or_else(|| bad_request("`resourceType` must be the name of a resource"))?;
    let found = definitions.named(name).map(|resource| resource.id);
    found.ok_or_else(|| bad_request(&format!("there is no resource {name:?}; `pgcordon meter` makes one")))
}

/// The limits that a body wants.
fn wanted(body: &Value, definitions: &Definitions) -> Result<Vec<(ResourceId, Wanted)>, Response> {
    let items = body.get("quotas").and_then(Value::as_array);
    let items = items.ok_or_else(|| bad_request("`quotas` must be a list"))?;
    let mut all: Vec<(ResourceId, Wanted)> = Vec::new();
    for item in items {
        let resource = resource(item, definitions)?;
        let limit = match item.get("limit") {
            Some(Value::Null) => Wanted::Unlimited,
            Some(limit) => match limit.as_u64().filter(|limit| i64::try_from(*limit).is_ok()) {
                Some(limit) => Wanted::AtMost(limit),
                None => return Err(bad_request("`limit` must be a whole number, 0 or more, or null for none")),
            },
            None => return Err(bad_request("`limit` is missing")),
        };
        if all.iter().any(|(earlier, _)| *earlier == resource) {
            return Err(bad_request("a resource is named twice"));
        }
        all.push((resource, limit));
    }
    Ok(all)
}

fn refused(refusal: &Refusal) -> Response {
    match refusal {
        Refusal::Exceeded(exceeded) => {
            let told = json!({
                "error": "QUOTA_EXCEEDED", "message": exceeded.message(), "details": exceeded.details(),
            });
            (StatusCode::TOO_MANY_REQUESTS, Json(told)).into_response()
        }
        Refusal::Undecided { resource, why } => {
            tracing::warn!(%resource, %why, "a quota couldn't be told");
            unavailable(&format!("the usage of {resource} can't be counted at the moment"))
        }
    }
}

fn failed(error: StoreError) -> Response {
    match error {
        StoreError::UnknownWorkspace(_) => not_found("there is no such workspace"),
        error => {
            tracing::error!(%error, "limits couldn't be stored");
            unavailable("the control database refused or can't be reached")
        }
    }
}
