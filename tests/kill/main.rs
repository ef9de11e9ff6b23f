//! The real binary, killed hard, stopped, lied to and left without answers, and compared with what the
//! sandbox and the callers wrote down outside of it. One file per group of promises; each promise
//! prints one line that a program can read.
//!
//! Kills happen at named fail points or after a seeded number of things the sandbox saw, never after
//! a time; restarts wait for readiness. `INJECTIONS` (20), `KILLS` (20) and `SEED` choose how many and
//! which; `scripts/kill` runs the long form. Where INJECTIONS is set, what takes minutes is done, too.

#[path = "../support/addresses.rs"]
mod addresses;
mod callers;
mod clocks;
mod disk;
mod door;
mod ground;
mod guard;
mod kills;
mod kinds;
mod live;
mod network;
mod nodes;
mod oracle;
mod outcomes;
mod poison;
mod postgres;
mod receivers;
mod relay;
mod replays;
mod server;
#[path = "../support/signed.rs"]
mod signed;
mod tls;
mod told;
mod unheard;
mod unreachable;

/// Stamps out the promises, once per engine.
macro_rules! promises {
    ($($promise:path as $name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { $promise(super::ground::Engine::Sqlite).await })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { $promise(super::ground::Engine::Postgres).await })+
        }
    };
}

promises! {
    crate::kills::at_random as survives_hard_kills,
    crate::kills::at_fail_points as b01_b02_b03_survives_a_kill_at_every_fail_point,
    crate::outcomes::each_acted_on_once as b05_each_outcome_is_acted_on_once,
    crate::outcomes::order_does_not_matter as b06_order_does_not_matter,
    crate::outcomes::missing_webhooks_are_healed as b08_missing_webhooks_are_healed,
    crate::unheard::a_window_is_healed as b08_all_webhooks_of_a_window_are_healed,
    crate::unheard::a_disabled_endpoint_is_healed as b08_a_disabled_endpoint_is_healed,
    crate::unheard::asking_for_many_is_cheap as b08_asking_for_many_is_cheap,
    crate::outcomes::a_gap_is_healed as b09_a_gap_is_healed,
    crate::outcomes::upstream_trouble_is_ridden_out as b10_upstream_trouble_is_ridden_out,
    crate::unreachable::a_lost_name_is_ridden_out as b10_a_lost_name_is_ridden_out,
    crate::unreachable::broken_tls_is_ridden_out as b10_broken_tls_is_ridden_out,
    crate::door::forged_events_never_act as b07_forged_events_never_act,
    crate::clocks::clocks_may_lie as b17_clocks_may_lie,
    crate::receivers::bad_ones_hurt_nobody as b11_bad_receivers_hurt_nobody,
    crate::receivers::etiquette_is_kept as b12_etiquette_is_kept,
    crate::door::poison_harms_nobody as b13_poison_harms_nobody,
    crate::poison::is_given_up_once as b13_poison_is_given_up_once,
    crate::poison::slows_nobody as b13_poison_slows_nobody,
    crate::replays::replays_are_safe as b14_replays_are_safe,
    crate::live::streams_have_no_holes as b23_streams_have_no_holes,
    crate::door::rotation_loses_nothing as b25_rotation_loses_nothing,
    crate::receivers::rotation_loses_nothing as b25_outbound_rotation_loses_nothing,
    crate::live::the_tunnel_loses_nothing as b26_the_tunnel_loses_nothing,
    crate::guard::nothing_inside_is_reached as b27_nothing_inside_is_reached,
    crate::door::drift_is_tolerated as b33_drift_is_tolerated,
    crate::callers::deploys_lose_nothing as b21_deploys_lose_nothing,
    crate::callers::one_key_one_effect as b34_one_key_one_effect,
    crate::callers::the_file_is_never_locked_or_broken as b35_the_file_is_never_locked_or_broken,
}

/// What only one of the engines can meet.
mod on_one_engine {
    #[tokio::test(flavor = "multi_thread")]
    async fn b16_a_full_disk_is_survived() {
        crate::disk::a_full_disk_is_survived().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn b16_refused_writes_are_survived() {
        crate::disk::refused_writes_are_survived().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn b18_postgres_may_go_away() {
        crate::nodes::postgres_may_go_away().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres_may_speak_tls() {
        crate::tls::postgres_may_speak_tls().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn b18_a_standby_takes_over() {
        crate::network::a_standby_takes_over().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn b18_the_network_is_bad() {
        crate::network::the_network_is_bad().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn b19_a_long_transaction_does_not_choke() {
        crate::nodes::a_long_transaction_does_not_choke().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn b20_nodes_may_die() {
        crate::nodes::nodes_may_die().await;
    }
}
