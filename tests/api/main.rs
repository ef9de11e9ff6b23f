//! The whole app over HTTP, judged by what was promised: a manual clock, the sandbox as HeyGen and
//! as oracle, both databases. A file is a subject, a case's name is a promise; what an
//! integration guide promises begins with its number.

mod access;
mod adopt;
mod app;
mod client;
mod database;
mod deadlines;
mod described;
mod doctor;
mod door;
mod dry_run;
mod event_log;
mod faults;
mod groups;
mod groups_end;
mod guides;
mod guides_jobs;
mod hints;
mod input;
mod kinds;
mod late;
mod limits;
mod links;
mod lists;
mod malformed;
mod pauses;
mod polls;
mod put_off;
mod queue;
mod receive;
mod requests;
mod rotation;
#[path = "../support/signed.rs"]
mod signed;
mod spend;
mod stream;
mod submit;
mod tell;
mod wishes;
