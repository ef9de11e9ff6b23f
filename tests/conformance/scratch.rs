//! A database of one's own: made, told about, and removed, though somebody is still connected.

use reelhook::store::db::Address;
use reelhook::store::{Db, scratch};

use crate::database::fresh_postgres_database;
use crate::harness::NOW;

#[test]
fn it_is_made_once_opened_and_removed_with_who_is_in_it() {
    let beside = fresh_postgres_database();
    let Address::Postgres(server) = &beside.address else { panic!("it is on PostgreSQL") };
    let path = url::Url::parse(server).expect("an address").path().trim_start_matches('/').to_owned();
    let name = format!("{path}_own");
    let own = scratch::create(server, &name).expect("it is made");
    assert!(own.ends_with(&format!("/{name}")), "{own}");
    assert!(scratch::create(server, &name).is_err(), "nothing that is there is taken over");
    let about = scratch::describe(&own).expect("the server tells");
    assert!(about.starts_with("PostgreSQL 1") && about.contains("fsync o"), "{about}");
    let db = Db::open(&Address::Postgres(own.clone()), NOW).expect("it opens");
    scratch::remove(server, &name).expect("it goes, with a connection in it");
    drop(db);
    assert!(scratch::describe(&own).is_err(), "it is gone");
    scratch::remove(server, &name).expect("twice is once");
}

#[test]
fn an_address_that_is_none_is_told_apart() {
    let told = scratch::create("postgres://[", "x").expect_err("no address").to_string();
    assert!(told.contains("no valid postgres:// address"), "{told}");
}
