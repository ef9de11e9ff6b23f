//! What the account has, as `GET /v3/users/me` tells it (docs/heygen.md, Account). Never asks by itself.

use serde_json::Value;

use crate::domain::limit::Milli;

/// Credits or dollars that are left, in thousandths; `None` where upstream tells no figure. Exactly
/// one of the three blocks is filled, each with its own unit.
pub fn balance(me: &Value) -> Option<Milli> {
    let number = |path: &str| figure(me.pointer(path)?);
    let wallet = || number("/wallet/remaining_balance");
    let plan = || {
        let plan = number("/subscription/credits/premium_credits/remaining");
        let extra = number("/subscription/credits/add_on_credits/remaining");
        plan.into_iter().chain(extra).reduce(|a, b| a + b)
    };
    let usage = || {
        let under_cap =
            || Some(number("/usage_based/spending_cap_usd")? - number("/usage_based/spending_current_usd")?);
        number("/usage_based/remaining_credits").or_else(under_cap)
    };
    let left = wallet().or_else(plan).or_else(usage)?;
    // Beyond nine million millions nobody counts; below, an f64 is exact enough.
    #[allow(clippy::cast_possible_truncation)]
    (left.abs() < 9e12).then(|| (left * 1_000.0).round() as Milli)
}

fn figure(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_way_of_billing_tells_its_balance() {
        let all = [
            (json!({"wallet": {"currency": "usd", "remaining_balance": 12.345}}), Some(12_345)),
            (json!({"wallet": {"remaining_balance": "7"}, "subscription": null}), Some(7_000)),
            (json!({"wallet": {"remaining_balance": -0.5}}), Some(-500)),
            (
                json!({"subscription": {"credits": {
                    "premium_credits": {"remaining": 10}, "add_on_credits": {"remaining": 2.5}}}}),
                Some(12_500),
            ),
            (json!({"subscription": {"credits": {"add_on_credits": {"remaining": 3}}}}), Some(3_000)),
            (json!({"usage_based": {"remaining_credits": 4}}), Some(4_000)),
            (json!({"usage_based": {"spending_cap_usd": 50, "spending_current_usd": 20}}), Some(30_000)),
        ];
        for (me, wanted) in all {
            assert_eq!(balance(&me), wanted, "{me}");
        }
    }

    #[test]
    fn what_tells_no_figure_has_none() {
        for me in [
            json!(null),
            json!([]),
            json!({"wallet": {"currency": "usd"}}),
            json!({"wallet": {"remaining_balance": "much"}}),
            json!({"wallet": {"remaining_balance": 1e300}}),
            json!({"usage_based": {"spending_cap_usd": 50}}),
            json!({"subscription": {"plan": "pro", "credits": {}}}),
        ] {
            assert_eq!(balance(&me), None, "{me}");
        }
    }
}
