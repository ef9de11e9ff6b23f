//! A PostgreSQL server that speaks TLS: the real binary trusts it as far as its address says, in the words of
//! PostgreSQL's own programs. The certificate in `tls/` is made for these tests and names 127.0.0.1.

use std::path::Path;

use crate::ground::Ground;
use crate::postgres::{Ours, Session};
use crate::server::{Server, Setup};

const KEY: &str = include_str!("tls/server.key");
const CERTIFICATE: &str = include_str!("tls/server.crt");
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kill/tls/authority.pem");

pub async fn postgres_may_speak_tls() {
    const ENCRYPTED: &str = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                             WHERE ssl AND application_name = 'reelhook'";
    let ours = Ours::start(0).await;
    let address = &ours.addresses[0];
    let ground = Ground::on(Some(address.clone()), |_| {}).await;
    let start = async |query: &str| {
        let setup = Setup { database: format!("{address}?{query}"), ..ground.setup() };
        Server::try_start(&setup, &[]).await
    };
    let begins = async |query: &str, encrypted: bool| {
        let server = start(query).await.unwrap_or_else(|said| panic!("{query}: {said}"));
        let sessions = Session::open(address).await.number(ENCRYPTED).await;
        assert_eq!(sessions > 0, encrypted, "{query}");
        server.kill().await;
    };
    let refuses = async |query: &str, why: &str| match start(query).await {
        Ok(_) => panic!("{query}: it started"),
        Err(said) => assert!(said.contains(why), "{query}: {said}"),
    };
    begins("", false).await;
    refuses("sslmode=require", "server does not support TLS").await;

    ours.speak_tls(KEY, CERTIFICATE).await;
    begins("", true).await;
    begins("sslmode=disable", false).await;
    begins("sslmode=require", true).await;
    begins(&format!("sslmode=verify-full&sslrootcert={AUTHORITY}"), true).await;
    refuses("sslmode=verify-full", "invalid peer certificate: UnknownIssuer").await;
    refuses("sslmode=verify-full&sslrootcert=nowhere.pem", "sslrootcert nowhere.pem: ").await;
    let empty = ground.setup().directory.join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let of = |file: &Path| format!("sslmode=verify-full&sslrootcert={}", file.display());
    refuses(&of(&empty), "it holds no certificate").await;
    // A name that it was not made for, and that leads there all the same.
    let other = address.replace("127.0.0.1", "localhost");
    assert_ne!(&other, address);
    let setup = Setup { database: format!("{other}?{}", of(AUTHORITY.as_ref())), ..ground.setup() };
    let said = Server::try_start(&setup, &[]).await.err();
    assert!(said.as_ref().is_some_and(|said| said.contains("not valid for name")), "{said:?}");
    drop(ground);
    ours.stop().await;
}
