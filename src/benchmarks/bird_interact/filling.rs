//! How far a PostgreSQL has filled the databases of BIRD-Interact, and what to do about it. Pure functions of what was seen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tasks::few;

/// How long a container may take to fill its databases.
pub(super) const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// A database is copied from its template with all its rows, so one that is empty stays empty; this allows for slow disks.
const EMPTY_FOR_GOOD: Duration = Duration::from_secs(30);

/// How far a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filled {
    /// Neither it nor its template is there.
    Absent,
    /// It is there, and its template is not.
    NoTemplate,
    /// The template is there, but not the database that is made from it once it is complete.
    Filling,
    /// No table holds a row.
    Empty,
    /// The role may not look into it; what the server says.
    Closed(String),
    /// Template, database, rows.
    Ready,
}

/// What a look at the server has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FillingSeen {
    /// No login, and waiting may help: no server listens, or it is not ready.
    Unreachable(String),
    /// No login, and waiting does not help: role, password, rights.
    Denied(String),
    /// A login works.
    In(BTreeMap<String, Filled>),
}

/// What to do after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Done,
    Wait(String),
    /// Waiting is useless: role or password.
    Denied(String),
    /// These stay empty.
    Failed(Vec<String>),
    /// It took too long; what is missing.
    Late(String),
}

/// Why a login failed: what the server says about the role is final.
pub(super) fn refused(said: String) -> FillingSeen {
    let lower = said.to_lowercase();
    let role = lower.contains("role \"") && lower.contains("does not exist");
    let final_words = [
        "authentication failed",
        "no password supplied",
        "no pg_hba.conf entry",
        "is not permitted to log in",
        "permission denied",
    ];
    if role || final_words.iter().any(|words| lower.contains(words)) {
        FillingSeen::Denied(said)
    } else {
        FillingSeen::Unreachable(said)
    }
}

/// What keeps runs from working. A user's own server may lack the databases beside the templates.
pub(super) fn left(seen: &FillingSeen, is_container: bool) -> Vec<(&String, &Filled)> {
    let FillingSeen::In(states) = seen else { return Vec::new() };
    states
        .iter()
        .filter(|(_, state)| **state != Filled::Ready && (is_container || **state != Filled::Filling))
        .collect()
}

/// `12 of 18 databases ready; not there: a, b; empty: c`.
pub(super) fn missing(states: &BTreeMap<String, Filled>, is_container: bool) -> String {
    let seen = FillingSeen::In(states.clone());
    let left = left(&seen, is_container);
    let mut parts = vec![format!("{} of {} databases ready", states.len() - left.len(), states.len())];
    type Test = fn(&Filled) -> bool;
    let kinds: [(&str, Test); 5] = [
        ("not there", |state| *state == Filled::Absent),
        ("without a template", |state| *state == Filled::NoTemplate),
        ("still imported", |state| *state == Filled::Filling),
        ("without any rows", |state| *state == Filled::Empty),
        ("not open to this role", |state| matches!(state, Filled::Closed(_))),
    ];
    for (words, test) in kinds {
        let names: Vec<&String> = left.iter().filter(|(_, state)| test(state)).map(|(name, _)| *name).collect();
        if !names.is_empty() {
            parts.push(format!("{words}: {}", few(&names)));
        }
    }
    let said = left.iter().find_map(|(_, state)| match state {
        Filled::Closed(said) => Some(said.clone()),
        _ => None,
    });
    parts.extend(said);
    parts.join("; ")
}

/// What to do about the container: `still` says how long nothing has changed, `waited` how long the wait has been.
pub(super) fn next(seen: &FillingSeen, still: Duration, waited: Duration) -> Next {
    let words = match seen {
        FillingSeen::Denied(said) => return Next::Denied(said.clone()),
        FillingSeen::Unreachable(said) => format!("no login yet ({said})"),
        FillingSeen::In(states) => {
            let left = left(seen, true);
            if left.is_empty() {
                return Next::Done;
            }
            let hopeless = |state: &Filled| matches!(state, Filled::Empty | Filled::Closed(_) | Filled::NoTemplate);
            if still >= EMPTY_FOR_GOOD && left.iter().all(|(_, state)| hopeless(state)) {
                return Next::Failed(left.into_iter().map(|(name, _)| name.clone()).collect());
            }
            missing(states, true)
        }
    };
    if waited >= PATIENCE { Next::Late(words) } else { Next::Wait(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(states: &[(&str, Filled)]) -> FillingSeen {
        FillingSeen::In(states.iter().map(|(name, state)| ((*name).to_string(), state.clone())).collect())
    }

    #[test]
    fn only_what_may_still_come_is_waited_for() {
        let (soon, later, never) = (Duration::ZERO, EMPTY_FOR_GOOD, PATIENCE);
        let wait = |seen: &FillingSeen| match next(seen, soon, soon) {
            Next::Wait(what) => what,
            other => panic!("{other:?}"),
        };
        let refused_login =
            refused("connection to server at \"127.0.0.1\", port 5432 failed: Connection refused".into());
        assert!(wait(&refused_login).starts_with("no login yet (connection to server"));
        assert!(matches!(next(&refused_login, never, never), Next::Late(_)));
        let filling =
            server(&[("a", Filled::Ready), ("b", Filled::Filling), ("c", Filled::Absent), ("d", Filled::Empty)]);
        assert_eq!(wait(&filling), "1 of 4 databases ready; not there: c; still imported: b; without any rows: d");
        // While others are imported, an empty one may still be filled.
        assert!(matches!(next(&filling, later, later), Next::Wait(_)));
        let failed = server(&[("a", Filled::Ready), ("d", Filled::Empty)]);
        assert!(matches!(next(&failed, soon, soon), Next::Wait(_)));
        assert_eq!(next(&failed, later, later), Next::Failed(vec!["d".into()]));
        assert_eq!(next(&server(&[("a", Filled::Ready)]), soon, soon), Next::Done);
    }

    #[test]
    fn a_wrong_password_is_not_waited_for() {
        for said in [
            "FATAL: password authentication failed for user \"root\"",
            "fe_sendauth: no password supplied",
            "FATAL: role \"root\" does not exist",
            "FATAL: no pg_hba.conf entry for host \"172.17.0.1\"",
        ] {
            assert_eq!(refused(said.into()), FillingSeen::Denied(said.into()));
        }
        for said in [
            "Connection refused",
            "server closed the connection unexpectedly",
            "FATAL: the database system is starting up",
        ] {
            assert_eq!(refused(said.into()), FillingSeen::Unreachable(said.into()));
        }
    }

    #[test]
    fn a_server_of_ones_own_needs_no_database_beside_a_template() {
        let seen = server(&[("a", Filled::Filling)]);
        assert_eq!(left(&seen, false).len(), 0);
        assert_eq!(left(&seen, true).len(), 1);
    }
}
