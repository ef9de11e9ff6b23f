//! Opening: one owner of a file, no older program on a newer schema, and what several nodes share.

use reelhook::store::db::Address;
use reelhook::store::{Db, Error, file_system, setting};

use crate::database::{fresh_postgres, fresh_postgres_database, fresh_sqlite};
use crate::harness::{NOW, soon};

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn open(address: &Address) -> Db {
    Db::open(address, NOW).expect("the database opens")
}

fn refusal(address: &Address) -> String {
    match Db::open(address, NOW) {
        Ok(_) => panic!("it was opened"),
        Err(e) => e.to_string(),
    }
}

fn execute(db: &Db, sql: &'static str) {
    in_runtime(db.write(move |tx| tx.execute(sql, &[]))).expect("the statement runs");
}

/// What every engine promises of a database that was there before.
fn reopening(address: &Address) {
    let db = open(address);
    in_runtime(db.write(|tx| setting::put(tx, "n", "kept"))).expect("a write");
    drop(db);
    let db = open(address);
    assert_eq!(db.engine(), address.engine());
    let kept = in_runtime(db.read(|tx| setting::find(tx, "n"))).expect("a read");
    assert_eq!(kept.as_deref(), Some("kept"), "data survives");
    execute(&db, "INSERT INTO migration (number, name, digest, applied_at) VALUES (9999, 'new', '', 0)");
    drop(db);
    let told = refusal(address);
    assert!(told.contains("9999") && told.contains("newer reelhook"), "{told}");
}

fn edited_migration(address: &Address) {
    let db = open(address);
    execute(&db, "UPDATE migration SET digest = 'of another text' WHERE number = 1");
    drop(db);
    let told = refusal(address);
    assert!(told.contains("1_init") && told.contains("differs"), "{told}");
}

/// A caller who hung up, and a server that stops: the write was asked for, so it is made.
fn leaving(address: &Address) {
    let db = open(address);
    in_runtime(async {
        for n in 0..50 {
            // Polled once, which sends it on its way; its answer is waited for by nobody.
            let asked = db.write(move |tx| setting::put(tx, &format!("n{n}"), "x"));
            let _ = futures_util::FutureExt::now_or_never(asked);
            let behind = db.write_behind(move |tx| setting::put(tx, &format!("b{n}"), "x"));
            let _ = futures_util::FutureExt::now_or_never(behind);
        }
    });
    drop(db);
    let db = open(address);
    for n in 0..50 {
        let both = in_runtime(db.read(move |tx| {
            Ok((setting::find(tx, &format!("n{n}"))?, setting::find(tx, &format!("b{n}"))?))
        }));
        let (asked, behind) = both.expect("a read");
        assert_eq!((asked.as_deref(), behind.as_deref()), (Some("x"), Some("x")), "n{n}");
    }
}

mod sqlite {
    use super::*;

    /// That one of a network is refused has its test beside the code: none can be mounted here.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_file_is_on_is_known() {
        let at = tempfile::tempdir().expect("a directory");
        assert!(file_system::kind(at.path()).is_some_and(|kind| !kind.is_empty()));
        assert_eq!(file_system::kind(&at.path().join("no/such/place")), None);
    }

    #[test]
    fn what_was_written_is_there_again_and_a_newer_schema_is_refused() {
        reopening(&fresh_sqlite().address);
    }

    #[test]
    fn what_was_asked_for_is_done_before_the_store_closes() {
        leaving(&fresh_sqlite().address);
    }

    #[test]
    fn a_migration_that_was_edited_is_refused() {
        edited_migration(&fresh_sqlite().address);
    }

    #[test]
    fn a_second_owner_of_the_file_is_refused_until_the_first_is_gone() {
        let fresh = fresh_sqlite();
        let db = open(&fresh.address);
        let Address::Sqlite(path) = &fresh.address else { panic!("a file") };
        let told = Db::open(&fresh.address, NOW).err().expect("it is refused");
        assert!(matches!(told, Error::Unfit(_)));
        assert!(told.to_string().contains(&path.display().to_string()), "{told}");
        drop(db);
        drop(open(&fresh.address));
    }

    #[cfg(unix)]
    #[test]
    fn nor_does_another_name_open_the_file_to_a_second() {
        let fresh = fresh_sqlite();
        let db = open(&fresh.address);
        let Address::Sqlite(path) = &fresh.address else { panic!("a file") };
        let link = path.with_extension("link");
        std::os::unix::fs::symlink(path, &link).expect("a link");
        let told = refusal(&Address::Sqlite(link.clone()));
        assert!(told.contains("in use by another reelhook"), "{told}");
        drop(db);
        drop(open(&Address::Sqlite(link.clone())));
        std::fs::remove_file(&link).expect("removed");
        std::fs::hard_link(path, &link).expect("a second name");
        assert!(refusal(&Address::Sqlite(link.clone())).contains("second name"));
        std::fs::remove_file(&link).expect("removed");
        drop(open(&fresh.address));
    }

    #[test]
    fn a_place_that_cannot_be_is_named() {
        let fresh = fresh_sqlite();
        let Address::Sqlite(path) = &fresh.address else { panic!("a file") };
        let below = format!("sqlite://{}/below/a/file.db", path.display());
        let told = refusal(&Address::parse(&below));
        assert!(told.contains("below/a/file.db"), "{told}");
    }

    #[test]
    fn whoever_has_the_file_is_alone() {
        assert!(open(&fresh_sqlite().address).started_alone());
    }

    #[test]
    fn a_file_of_another_kind_is_refused_and_left_alone() {
        let fresh = fresh_sqlite();
        let Address::Sqlite(path) = &fresh.address else { panic!("a file") };
        let text = "a diary, and no database. ".repeat(100);
        std::fs::write(path, &text).expect("a file");
        let told = refusal(&fresh.address);
        assert!(told.contains("is no SQLite database; move it away"), "{told}");
        assert_eq!(std::fs::read_to_string(path).expect("the file"), text);
    }
}

mod postgres {
    use super::*;

    #[test]
    fn what_was_written_is_there_again_and_a_newer_schema_is_refused() {
        reopening(&fresh_postgres().address);
    }

    #[test]
    fn what_was_asked_for_is_done_before_the_store_closes() {
        leaving(&fresh_postgres().address);
    }

    #[test]
    fn a_migration_that_was_edited_is_refused() {
        edited_migration(&fresh_postgres().address);
    }

    #[test]
    fn nodes_that_start_together_share_one_schema() {
        let fresh = fresh_postgres();
        let starts: Vec<_> = (0..4)
            .map(|_| {
                let address = fresh.address.clone();
                std::thread::spawn(move || Db::open(&address, NOW).map(drop))
            })
            .collect();
        for start in starts {
            start.join().expect("no panic").expect("every node starts");
        }
    }

    #[test]
    fn a_node_knows_whether_others_live() {
        let fresh = fresh_postgres_database();
        let one = open(&fresh.address);
        assert!(one.started_alone());
        let two = open(&fresh.address);
        assert!(!two.started_alone());
        assert!(one.started_alone(), "of its own start");
    }

    #[test]
    fn connections_the_server_ended_are_opened_again_and_nobody_is_told() {
        let fresh = fresh_postgres_database();
        let db = open(&fresh.address);
        let others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        in_runtime(async {
            for n in 0..5 {
                db.read(move |tx| tx.query(others, &[]).map(drop)).await.expect("all but one are ended");
                for _ in 0..5 {
                    db.write(move |tx| setting::put(tx, "n", &n.to_string())).await.expect("a write");
                    let seen = db.read(|tx| setting::find(tx, "n")).await.expect("a read");
                    assert_eq!(seen.as_deref(), Some(&*n.to_string()));
                }
            }
        });
    }

    #[test]
    fn nodes_hear_each_others_bell() {
        let fresh = fresh_postgres_database();
        let (one, two) = (open(&fresh.address), open(&fresh.address));
        in_runtime(async {
            // Rung once when it began to listen; from then on only the other node rings it.
            let mut bell = two.bell.arm();
            soon("listener", bell.wait_for(|rings| *rings >= 1)).await.expect("the bell is there");
            one.write(|tx| {
                tx.ring();
                setting::put(tx, "n", "x")
            })
            .await
            .expect("a write");
            soon("ring", bell.wait_for(|rings| *rings >= 2)).await.expect("the bell is there");
            let seen = two.read(|tx| setting::find(tx, "n")).await.expect("a read");
            assert_eq!(seen.as_deref(), Some("x"), "when it rings the data is there");
        });
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_repeating_it() {
        let told = refusal(&Address::Postgres("postgres://u:secret@h:port/d".to_owned()));
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn a_server_that_is_not_there_is_unavailable() {
        // Port 1 is nobody's.
        let told = Db::open(&Address::Postgres("postgres://u@127.0.0.1:1/d".to_owned()), NOW).err();
        assert!(told.as_ref().is_some_and(Error::may_pass), "{told:?}");
    }
}
