//! One table of routes makes the router and, with the words beside each route (`table.rs`), the OpenAPI
//! document. A route that is not in the table does not exist.

mod table;

use axum::Router;
use axum::middleware;
use axum::routing::{MethodRouter, any, delete, get, patch, post};
use tower_http::catch_panic::CatchPanicLayer;

pub use self::table::{Doc, PAGE, TABLE};
use super::{
    Http, adopt, answer, audit, auth, dead_letters, deliveries, doctor, endpoints, events, groups, hook,
    jobs, keys, ops, query, receipts, stream, upstream, videos, webhooks,
};

/// The handlers of a route of the table.
fn handler(method: &str, path: &str) -> Option<MethodRouter<Http>> {
    Some(match (method, path) {
        ("post", "/api/jobs") => post(jobs::submit),
        ("get", "/api/jobs") => get(jobs::list),
        ("get", "/api/jobs/{id}") => get(jobs::get),
        ("post", "/api/jobs/{id}/cancel") => post(jobs::cancel),
        ("post", "/api/jobs/{id}/refresh") => post(jobs::refresh),
        ("post", "/api/jobs/{id}/retry") => post(jobs::retry),
        ("post", "/api/jobs/adopt") => post(adopt::adopt),
        ("post", "/api/groups") => post(groups::submit),
        ("post", "/api/groups/{id}/rows") => post(groups::add_rows),
        ("get", "/api/groups") => get(groups::list),
        ("get", "/api/groups/{id}") => get(groups::get),
        ("post", "/api/groups/{id}/cancel") => post(groups::cancel),
        ("post", "/api/groups/{id}/retry-failed") => post(groups::retry_failed),
        ("post", "/api/jobs/{id}/approve") => post(jobs::approve),
        ("post", "/api/jobs/{id}/reject") => post(jobs::reject),
        ("get", "/api/jobs/{id}/events") => get(jobs::events),
        ("get", "/api/jobs/{id}/stream") => get(stream::of_job),
        ("post", "/api/jobs/{id}/link-token") => post(jobs::link_token),
        ("get", "/api/jobs/{id}/receipts") => get(jobs::receipts_of),
        ("get", "/api/videos/{id}") => get(videos::get),
        ("get", "/api/events") => get(events::list),
        ("get", "/api/events/{id}") => get(events::get),
        ("get", "/api/stream") => get(stream::all),
        ("get", "/api/receipts") => get(receipts::list),
        ("get", "/api/receipts/{id}") => get(receipts::get),
        ("get", "/api/endpoints") => get(endpoints::list),
        ("post", "/api/endpoints") => post(endpoints::add),
        ("get", "/api/endpoints/{id}") => get(endpoints::get),
        ("patch", "/api/endpoints/{id}") => patch(endpoints::update),
        ("delete", "/api/endpoints/{id}") => delete(endpoints::remove),
        ("post", "/api/endpoints/{id}/rotate") => post(endpoints::rotate),
        ("post", "/api/endpoints/{id}/test") => post(endpoints::test),
        ("post", "/api/endpoints/{id}/enable") => post(endpoints::enable),
        ("get", "/api/deliveries") => get(deliveries::list),
        ("get", "/api/deliveries/{id}") => get(deliveries::get),
        ("post", "/api/deliveries/{id}/replay") => post(deliveries::replay),
        ("post", "/api/deliveries/replay") => post(deliveries::replay_untaken),
        ("get", "/api/dead-letters") => get(dead_letters::list),
        ("get", "/api/dead-letters/causes") => get(dead_letters::causes),
        ("get", "/api/dead-letters/{id}") => get(dead_letters::get),
        ("post", "/api/dead-letters/replay") => post(dead_letters::replay),
        ("post", "/api/dead-letters/drop") => post(dead_letters::drop),
        ("get", "/api/replays") => get(dead_letters::replays),
        ("get", "/api/replays/{id}") => get(dead_letters::get_replay),
        ("post", "/api/replays/{id}/stop") => post(dead_letters::stop_replay),
        ("get", "/api/audit") => get(audit::list),
        ("get", "/api/upstream") => get(upstream::get),
        ("post", "/api/upstream/pause") => post(upstream::pause),
        ("post", "/api/upstream/resume") => post(upstream::resume),
        ("get", "/api/webhooks") => get(webhooks::list),
        ("post", "/api/webhooks") => post(webhooks::register),
        ("post", "/api/webhooks/{id}/rotate") => post(webhooks::rotate),
        ("delete", "/api/webhooks/{id}") => delete(webhooks::remove),
        ("get", "/api/keys") => get(keys::list),
        ("post", "/api/keys") => post(keys::create),
        ("delete", "/api/keys/{id}") => delete(keys::revoke),
        ("get", "/api/doctor") => get(doctor::get),
        ("get", "/api/openapi.json") => get(ops::openapi_json),
        ("get", "/errors") => get(ops::errors),
        ("get", "/livez") => get(ops::livez),
        ("get", "/readyz") => get(ops::readyz),
        ("get", "/version") => get(ops::version),
        ("get", "/metrics") => get(ops::metrics),
        _ => return None,
    })
}

pub fn router(http: Http) -> Router {
    let (mut keyed, mut linked) = (Router::new(), Router::new());
    let mut open = Router::new().route("/", get(ops::root));
    for doc in TABLE {
        // A test calls every route of the table, so a missing handler is found there.
        let Some(handler) = handler(doc.method, doc.path) else { continue };
        let takes_none = doc.keyed && doc.query.is_empty();
        let handler =
            if takes_none { handler.route_layer(middleware::from_fn(query::none)) } else { handler };
        let side = match (doc.keyed, doc.linked) {
            (false, _) => &mut open,
            (true, false) => &mut keyed,
            (true, true) => &mut linked,
        };
        *side = std::mem::take(side).route(doc.path, handler);
    }
    let keyed = keyed.layer(middleware::from_fn_with_state(http.clone(), auth::require));
    let linked = linked.layer(middleware::from_fn_with_state(http.clone(), auth::require_or_link));
    for path in hook::PATHS {
        let door = post(hook::receive).get(hook::probe).options(hook::probe);
        open = open.route(path, door.clone()).route(&format!("{path}/"), door);
    }
    let own = post(hook::receive_for_job).get(hook::probe).options(hook::probe);
    open = open.route(hook::JOB_PATH, own);
    open.merge(keyed)
        .merge(linked)
        .method_not_allowed_fallback(ops::wrong_method)
        .fallback(any(ops::no_route))
        .layer(CatchPanicLayer::custom(ops::panicked))
        .layer(middleware::from_fn_with_state(http.clone(), answer::complete))
        .with_state(http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_table_has_a_handler_and_stands_once() {
        for (nth, doc) in TABLE.iter().enumerate() {
            assert!(handler(doc.method, doc.path).is_some(), "{} {}", doc.method, doc.path);
            let again = TABLE[nth + 1..].iter().any(|d| (d.method, d.path) == (doc.method, doc.path));
            assert!(!again, "{} {} stands twice", doc.method, doc.path);
        }
    }
}
