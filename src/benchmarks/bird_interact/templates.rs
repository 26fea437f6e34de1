//! The content of BIRD-Interact's template databases: every trial gets copies of them, so they decide scores as much as the tasks do.
//!
//! A digest is taken of a copy, because a template cannot be copied while a session is connected to it. That takes a second
//! per database, so the digest is kept with what the server says about the template for free: its number, and counts of all
//! writes in it. It is read again only if these have changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::data::TaskSource;
use super::postgres::{LOOK, PostgresServer};
use super::setup::BirdSetup;
use crate::benchmarks::Ground;
use crate::config::{Config, Environment};
use crate::error::{Code, Error, Result};
use crate::model::hash::hash;
use crate::process::signals::Cancel;
use crate::process::{Limits, Supervisor};
use crate::provision::Surroundings;
use crate::store::atomic;

/// How long reading one database may take, and how much of it a report may be.
const READ: Limits = Limits { time: Duration::from_secs(600), output: 64 * 1024 * 1024 };

/// What the digest covers: rows, and everything that SQL can tell about a database except owners and rights.
const CONTENT: &str = r"
SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1;
SET bytea_output = 'hex'; SET xmlbinary = 'base64'; SET search_path = pg_catalog; SET statement_timeout = 0;
CREATE TEMP VIEW own AS SELECT oid, nspname FROM pg_namespace WHERE nspname NOT IN ('pg_catalog', 'information_schema')
  AND nspname NOT LIKE 'pg\_toast%' AND nspname NOT LIKE 'pg\_temp%';
SELECT 'column', nspname, relname, relkind, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
  pg_get_expr(adbin, adrelid) FROM pg_class JOIN own ON own.oid = relnamespace JOIN pg_attribute ON attrelid = pg_class.oid
  LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attnum > 0 AND NOT attisdropped
  AND relkind IN ('r', 'p', 'v', 'm', 'f', 'c') ORDER BY nspname, relname, attnum;
SELECT 'constraint', nspname, conrelid::regclass, conname, pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint
  JOIN own ON own.oid = connamespace ORDER BY nspname, conrelid::regclass::text, conname;
SELECT 'index', nspname, relname, pg_get_indexdef(pg_class.oid) FROM pg_class JOIN own ON own.oid = relnamespace
  WHERE relkind IN ('i', 'I') ORDER BY nspname, relname;
SELECT 'view', nspname, relname, pg_get_viewdef(pg_class.oid) FROM pg_class JOIN own ON own.oid = relnamespace
  WHERE relkind IN ('v', 'm') ORDER BY nspname, relname;
SELECT 'routine', nspname, pg_proc.oid::regprocedure, pg_get_functiondef(pg_proc.oid) FROM pg_proc
  JOIN own ON own.oid = pronamespace WHERE prokind IN ('f', 'p') ORDER BY nspname, pg_proc.oid::regprocedure::text;
SELECT 'trigger', nspname, relname, pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
  JOIN own ON own.oid = relnamespace WHERE NOT tgisinternal ORDER BY nspname, relname, tgname;
SELECT 'label', nspname, typname, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid
  JOIN own ON own.oid = typnamespace ORDER BY nspname, typname, enumsortorder;
SELECT 'sequence', schemaname, sequencename, last_value FROM pg_sequences ORDER BY schemaname, sequencename;
SELECT format('SELECT ''rows'', %L, count(*), md5(coalesce(string_agg(md5(t::text), '''' ORDER BY md5(t::text) COLLATE %I), ''''))
  FROM %I.%I t', nspname || '.' || relname, 'C', nspname, relname) FROM pg_class JOIN own ON own.oid = relnamespace
  WHERE relkind IN ('r', 'm') ORDER BY nspname, relname \gexec
";

/// A digest, and what the server said of the template when it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownTemplate {
    sign: String,
    digest: String,
}

/// The templates as a command found them, to be checked again: an agent's SQL that reaches a template decides every reward
/// from then on, that of its own trial included.
pub(super) struct TemplateDigests {
    config: Config,
    root: PathBuf,
    state: PathBuf,
    environment: Environment,
    supervisor: Supervisor,
    digests: BTreeMap<String, String>,
}

impl TemplateDigests {
    /// Looks at the templates of the configured data set.
    pub(super) async fn look(ground: &Ground<'_>) -> Result<TemplateDigests> {
        let setup = BirdSetup::of(ground.config, &ground.paths.root, ground.environment);
        Ok(TemplateDigests {
            config: ground.config.clone(),
            root: ground.paths.root.clone(),
            state: ground.paths.state.clone(),
            environment: ground.environment.clone(),
            supervisor: ground.supervisor.clone(),
            digests: digests(&setup, &TaskSource::of(&setup).databases(), &ground.around()).await?,
        })
    }

    /// What they hold, by database.
    pub(super) fn digests(&self) -> &BTreeMap<String, String> {
        &self.digests
    }

    /// Those whose content has changed.
    pub(super) async fn changed(&self, cancel: &Cancel) -> Result<Vec<String>> {
        let setup = BirdSetup::of(&self.config, &self.root, &self.environment);
        let around = Surroundings {
            root: &self.root,
            state: &self.state,
            environment: &self.environment,
            supervisor: &self.supervisor,
            cancel,
        };
        let databases: Vec<String> = self.digests.keys().cloned().collect();
        let now = digests(&setup, &databases, &around).await?;
        Ok(databases.into_iter().filter(|name| now.get(name) != self.digests.get(name)).collect())
    }
}

/// SHA-256 over the content of every template, by database. `state`: where digests are kept from one command to the next.
/// Errors: infrastructure when the server cannot be asked or a template is missing; `Interrupted`.
async fn digests(
    setup: &BirdSetup<'_>,
    databases: &[String],
    around: &Surroundings<'_>,
) -> Result<BTreeMap<String, String>> {
    let server = PostgresServer::of(setup, around);
    let kept = around.state.join("bird-templates.json");
    let place = server.place();
    let mut all = load(&kept);
    let known = all.entry(place.clone()).or_default();
    let signs = signs(&server, databases).await?;
    let mut digests = BTreeMap::new();
    let mut is_new = false;
    for name in databases {
        let Some(sign) = signs.get(name) else {
            return Err(unusable(&place, format!("there is no database {name}_template")));
        };
        let digest = match known.get(name).filter(|known| known.sign == *sign) {
            Some(known) => known.digest.clone(),
            None => {
                let digest = read(&server, name).await?;
                known.insert(name.clone(), KnownTemplate { sign: sign.clone(), digest: digest.clone() });
                is_new = true;
                digest
            }
        };
        digests.insert(name.clone(), digest);
    }
    if is_new {
        atomic::replace_unsynced(&kept, json!(all).to_string().as_bytes())?;
    }
    Ok(digests)
}

fn load(path: &Path) -> BTreeMap<String, BTreeMap<String, KnownTemplate>> {
    fs_err::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn unusable(place: &str, what: String) -> Error {
    Error::infrastructure(format!("the databases of BIRD-Interact cannot be read as {place}: {what}"))
        .code(Code::BenchmarkFailed)
        .hint("`autoharness doctor` looks at the server; `autoharness prepare` starts the benchmark's own.")
}

/// What the server says about each template without a connection to it.
async fn signs(server: &PostgresServer<'_>, databases: &[String]) -> Result<BTreeMap<String, String>> {
    let script = "SELECT d.datname, d.oid, s.tup_inserted, s.tup_updated, s.tup_deleted, s.stats_reset \
                  FROM pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid WHERE d.datname LIKE '%\\_template';\n";
    let said = server.ask("postgres", script, None, LOOK).await?.map_err(|said| unusable(&server.place(), said))?;
    let text = said.text();
    let rows = text.lines().filter_map(|line| line.split_once('|'));
    let rows = rows.filter_map(|(name, sign)| Some((name.strip_suffix("_template")?.to_string(), sign.to_string())));
    Ok(rows.filter(|(name, _)| databases.contains(name)).collect())
}

/// Copies a template, and reads the copy. The copy's name and the session's are those of a run, so that the next run
/// recognises what a killed command left.
async fn read(server: &PostgresServer<'_>, database: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let run = hash(format!("{now} {} {database}", std::process::id()).as_bytes())[..8].to_string();
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (copy, template) = (quoted(&format!("{database}__ah{run}t0")), quoted(&format!("{database}_template")));
    let script = format!(
        "\\set ON_ERROR_STOP on\nCREATE DATABASE {copy} TEMPLATE {template};\n\\connect {copy}\n{CONTENT}\n\\connect postgres\n\
         DROP DATABASE {copy};\n"
    );
    let application = format!("autoharness_{run}");
    match server.ask("postgres", &script, Some(&application), READ).await? {
        Ok(said) => Ok(hash(&said.stdout)),
        Err(said) => {
            // Whatever went wrong, the copy is useless now.
            let drop = format!("DROP DATABASE IF EXISTS {copy};\n");
            let _ = server.ask("postgres", &drop, None, LOOK).await?;
            Err(unusable(&server.place(), said))
        }
    }
}
