//! Table `setting`: of two who put at the same time, both get the first.

use reelhook::store::{Error, setting};

use crate::harness::{Store, cases};

cases![a_value_is_put_found_and_replaced, the_first_to_put_decides_for_everyone];

async fn a_value_is_put_found_and_replaced(store: Store) {
    assert_eq!(store.read(|tx| setting::find(tx, "n")).await, None);
    store.write(|tx| setting::put(tx, "n", "one")).await;
    store.write(|tx| setting::put(tx, "n", "two")).await;
    store.write(|tx| setting::put(tx, "other", "")).await;
    assert_eq!(store.read(|tx| setting::find(tx, "n")).await.as_deref(), Some("two"));
    assert_eq!(store.read(|tx| setting::find(tx, "other")).await.as_deref(), Some(""), "empty is a value");
}

async fn the_first_to_put_decides_for_everyone(store: Store) {
    let puts =
        (0..10).map(|n| {
            let db = store.db.clone();
            async move {
                db.write(move |tx| setting::get_or_put(tx, setting::ADDRESS_KEY, &format!("v{n}"))).await
            }
        });
    let got: Result<Vec<String>, Error> = futures_util::future::join_all(puts).await.into_iter().collect();
    let got = got.expect("every put succeeds");
    let kept = store.read(|tx| setting::find(tx, setting::ADDRESS_KEY)).await.expect("it is there");
    assert!(got.iter().all(|v| *v == kept), "{got:?} against {kept}");
}
