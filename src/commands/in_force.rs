//! Whether what the gate said still holds: by the rules, and for the experiment, as they are now.

use serde_json::{Value, json};

use crate::model::gate::{Evidence, LeakScan, Policy};
use crate::store::event::Verdict;
use crate::store::summary::{Receipt, Summary};

/// Whether a receipt is about the experiment as it is now: a human may have accepted changes since.
pub(super) fn is_current(receipt: &Receipt, summary: &Summary) -> bool {
    let verdict = &receipt.verdict;
    summary.prepared.as_ref().is_some_and(|prepared| {
        prepared.protocol == verdict.protocol
            && summary.base.as_ref() == Some(&verdict.base)
            && decides_as(&verdict.evidence.policy, &prepared.config)
            && passes_the_scan(&verdict.evidence, &prepared.config)
    }) && answers_for_the_suite(verdict, summary)
}

/// Whether the edit was held to every task that its suite has now: a human may have added some since, or made some count again.
fn answers_for_the_suite(verdict: &Verdict, summary: &Summary) -> bool {
    let Verdict { evidence, decision, agent, .. } = verdict;
    let counted = |task: &String| {
        evidence.suite.0.contains_key(task)
            && (!evidence.quarantined.contains(task) || summary.quarantined.contains_key(task))
    };
    summary.suite_for(agent).iter().all(|task| counted(task) || decision.promoted.contains(task))
}

/// Whether these rules decide as a configuration does, which is as `prepare` keeps it. What the gate tells of the hold-out is
/// not among them, nor is the number of an edit among those that share `alpha`.
pub(super) fn decides_as(policy: &Policy, config: &Value) -> bool {
    let rules = json!([policy.threshold, policy.min_evidence, policy.timeout_policy, policy.gate_split, policy.trials]);
    let keys = ["threshold", "min_evidence", "timeout_policy", "gate_split", "trials"];
    if rules != json!(keys.map(|key| &config[key])) {
        return false;
    }
    let Some(paired) = policy.paired else {
        return config.get("gate_rule").is_none_or(|rule| rule == "best");
    };
    let rule = json!(["paired", paired.alpha, paired.max_rounds, paired.confirm_trials]);
    let keys = ["gate_rule", "alpha", "max_rounds", "confirm_trials"];
    rule == json!(keys.map(|key| &config[key]))
        && is_as_configured(config, "promote_after", &json!(paired.promote_after))
        && is_as_configured(config, "alpha_spending", &json!(paired.candidate.is_some()))
}

/// Whether a configuration says so, or is too old to have the key: then no verdict of its time has it either.
pub(super) fn is_as_configured(config: &Value, key: &str, used: &Value) -> bool {
    config.get(key).is_none_or(|configured| configured == used)
}

/// Whether a configuration lets an edit pass of which the leak scan found this. Where findings only warn, they decide nothing.
fn passes_the_scan(evidence: &Evidence, config: &Value) -> bool {
    let must_be_clean = config.get("leak_scan") == Some(&json!(LeakScan::Fail));
    !must_be_clean || (!evidence.policy.leak_scan.is_off() && evidence.leaks.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gate::{Disclosure, PairedPolicy};

    /// The configuration that these rules come from, with one key changed.
    fn config(policy: &Policy, key: &str, value: Value) -> Value {
        let mut config = json!({"threshold": policy.threshold, "min_evidence": policy.min_evidence, "timeout_policy": "agent",
            "gate_split": "test", "trials": 1, "leak_scan": "warn", "holdout_disclosure": "score", "gate_rule": "best",
            "alpha": 0.1, "max_rounds": 3, "confirm_trials": 1, "promote_after": 3, "alpha_spending": false, "max_suite": null});
        if policy.paired.is_some() {
            config["gate_rule"] = json!("paired");
            config["alpha_spending"] = json!(true);
        }
        config[key] = value;
        config
    }

    #[test]
    fn what_the_decision_hangs_on_must_be_the_same_and_nothing_else() {
        let best = Policy { leak_scan: LeakScan::Warn, ..Policy::default() };
        let rule =
            PairedPolicy { alpha: 0.1, max_rounds: 3, confirm_trials: 1, promote_after: Some(3), candidate: Some(7) };
        let paired = Policy { paired: Some(rule), holdout_disclosure: Disclosure::Ladder, ..best.clone() };
        for (key, value, by_best, by_paired) in [
            ("threshold", json!(0.9), false, false),
            ("min_evidence", json!(1.0), false, false),
            ("timeout_policy", json!("infra"), false, false),
            ("trials", json!(2), false, false),
            ("alpha", json!(0.05), true, false),
            ("max_rounds", json!(5), true, false),
            ("confirm_trials", json!(3), true, false),
            ("promote_after", json!(5), true, false),
            ("alpha_spending", json!(false), true, false),
            ("holdout_disclosure", json!("bit"), true, true),
            ("leak_scan", json!("off"), true, true),
            ("max_suite", json!(10), true, true),
            ("infra_retries", json!(5), true, true),
        ] {
            assert_eq!(decides_as(&best, &config(&best, key, value.clone())), by_best, "best, {key}");
            assert_eq!(decides_as(&paired, &config(&paired, key, value)), by_paired, "paired, {key}");
        }
        assert!(!decides_as(&best, &config(&best, "gate_rule", json!("paired"))));
        assert!(!decides_as(&paired, &config(&paired, "gate_rule", json!("best"))));
        // As the first versions kept it, and their verdicts.
        let mut old = config(&paired, "leak_scan", json!("warn"));
        let keys = old.as_object_mut().unwrap();
        keys.retain(|key, _| !["promote_after", "alpha_spending"].contains(&key.as_str()));
        let rule = PairedPolicy { promote_after: None, candidate: None, ..rule };
        assert!(decides_as(&Policy { paired: Some(rule), ..paired }, &old));
    }

    #[test]
    fn an_edit_passes_a_stricter_scan_only_where_it_was_scanned_and_clean() {
        for (scan, leaks, configured, passes) in [
            (LeakScan::Warn, 0, "fail", true),
            (LeakScan::Warn, 1, "fail", false),
            (LeakScan::Off, 0, "fail", false),
            (LeakScan::Warn, 1, "off", true),
            (LeakScan::Fail, 0, "warn", true),
        ] {
            let policy = Policy { leak_scan: scan, ..Policy::default() };
            let evidence = Evidence { leaks: vec!["agent.py:1: a leak".into(); leaks], ..Evidence::new(policy) };
            assert_eq!(passes_the_scan(&evidence, &json!({"leak_scan": configured})), passes, "{scan:?} {configured}");
        }
    }
}
