//! Table `audit`: lines are added, listed, and long after forgotten.

use reelhook::store::audit::{self, Line};

use crate::harness::{NOW, Store, cases, id};

cases![lines_come_newest_first_and_go_oldest_first];

fn line(n: u32) -> Line {
    Line {
        id: id("aud_", n),
        created_at: NOW + i64::from(n),
        who: "ci ü".to_owned(),
        action: "dead_letter.drop".to_owned(),
        details: r#"{"count": 1}"#.to_owned(),
    }
}

async fn lines_come_newest_first_and_go_oldest_first(store: Store) {
    for n in 0..4 {
        store.write(move |tx| audit::insert(tx, &line(n))).await;
    }
    let page = async |before: Option<u32>, limit| {
        let before = before.map(|n| id("aud_", n));
        store.read(move |tx| audit::list(tx, before.as_deref(), limit)).await
    };
    assert_eq!(page(None, 3).await, [line(3), line(2), line(1)]);
    assert_eq!(page(Some(1), 3).await, [line(0)]);
    let purge = async |before, most| store.write(move |tx| audit::purge(tx, before, most)).await;
    assert_eq!((purge(NOW + 3, 2).await, purge(NOW + 3, 2).await, purge(NOW + 3, 2).await), (2, 1, 0));
    assert_eq!(page(None, 9).await, [line(3)]);
}
