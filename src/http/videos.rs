//! The small status object that players in tutorials poll: `GET /api/videos/{id}`, by HeyGen's id or
//! ours.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Http;
use super::jobs::find;
use super::problem::Result;
use crate::domain::job::State as JobState;

pub async fn get(State(http): State<Http>, Path(id): Path<String>) -> Result<Response> {
    let job = find(&http, &id).await?;
    let status = match job.state {
        JobState::Completed => "COMPLETED",
        JobState::Failed | JobState::Canceled => "FAILED",
        _ => "PROCESSING",
    };
    let d = &job.details;
    let error = d.failure.as_ref().map(|f| f.message.clone()).or_else(|| d.cancel_reason.clone());
    let url = d.output.video_url.clone().filter(|_| job.state == JobState::Completed);
    Ok(axum::Json(json!({
        "id": job.id,
        "video_id": job.upstream_video_id.as_ref().or(job.upstream_id.as_ref()),
        "status": status,
        "url": url,
        "error": error,
    }))
    .into_response())
}
