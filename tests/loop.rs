//! The loop: a coding agent proposes, the gate judges; whatever the coding agent does and whenever somebody kills the loop, it
//! ends as it was asked to, pays for nothing twice and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use crate::support::running::{Gate, Running, nobody_left, until};
use crate::support::terminal::{Sent, on_a_terminal, shown};
use crate::support::{Bed, Done};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;

/// A prepared bed with a scripted coding agent `fake`.
pub(crate) struct Night {
    pub(crate) bed: Bed,
}

impl Night {
    pub(crate) fn new(options: Value, config: &str) -> Night {
        let bed = Bed::stocked(&format!("night {options} {config}"), || {
            let bed = Bed::table(options, "");
            let place = bed.outside().join("home/fake");
            std::fs::create_dir(&place).unwrap();
            std::fs::write(place.join("propose.py"), include_str!("support/propose.py")).unwrap();
            let command = ["sh", "-c", "exec python3 ~/fake/propose.py ~/fake"];
            let agent = json!({"fake": {"command": command, "usage": "usage.jsonl", "writes": ["~/fake"]}});
            let yaml = bed.read("experiment_config.yaml");
            bed.write(
                "experiment_config.yaml",
                &format!("{yaml}coding_agents: {agent}\nloop_env: [PROPOSER_KEY]\n{config}\n"),
            );
            bed.run(&["prepare"]).expect(0);
            bed.ran();
            bed.requests();
            bed
        });
        Night { bed }
    }

    /// A file between the test and the coding agent.
    pub(crate) fn place(&self, name: &str) -> std::path::PathBuf {
        self.bed.outside().join("home/fake").join(name)
    }

    /// What the sessions from now on do.
    pub(crate) fn plan(&self, plan: Value) {
        std::fs::write(self.place("plan.json"), plan.to_string()).unwrap();
        let _ = std::fs::remove_file(self.place("sessions.jsonl"));
    }

    pub(crate) fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = self.bed.command(&[&["loop", "--with", "fake"], words].concat());
        command.env("PROPOSER_KEY", "sk-of-the-proposer").env("BENCH_API_KEY", "sk-of-the-benchmark");
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Done {
        crate::support::done(self.command(words).output().unwrap())
    }

    pub(crate) fn sessions(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.place("sessions.jsonl")).unwrap_or_default();
        // A session that begins may be in the middle of its line.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Nothing is left over: no work tree, no state, no process, and the agent is the committed one.
    #[track_caller]
    pub(crate) fn tidy(&self) {
        let cache = self.bed.outside().join("home/.cache/autoharness/loop");
        let left: Vec<_> = walkdir::WalkDir::new(&cache).max_depth(2).into_iter().flatten().skip(1).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.bed.state().join("loop.json").exists());
        assert_eq!(self.bed.git(&["status", "--porcelain"]), "?? PROGRAM.md", "what `prepare` wrote");
        nobody_left(&self.bed);
    }

    /// No trial was run twice since the last look.
    #[track_caller]
    pub(crate) fn paid_once(&self) {
        let mut ran = self.bed.ran();
        let count = ran.len();
        ran.sort();
        ran.dedup();
        assert_eq!(ran.len(), count, "{ran:?}");
    }
}

#[test]
fn a_good_edit_is_kept_and_a_bad_one_goes() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    night.plan(json!([
        {"skills": ["easy", "hard"], "usage": {"turns": 3, "tokens_in": 900, "tokens_out": 100, "cost_usd": 0.25},
         "stdout": "{\"said\": \"sk-of-the-proposer\"}\n"},
        {"skills": ["odd"]},
    ]));
    let told = bed.outside().join("told.jsonl");
    let hook = format!("sh -c 'cat \"$0\" >> {}'", told.display());
    let done = night.run(&["--iterations", "2", "--on-iteration", &hook, "--on-complete", "false"]).expect(0);
    let done = done
        .says("iteration 1: accepted [tool] the agent lacks skills that train asks for; gate: passed val_score=1.0000")
        .says("iteration 2: rejected")
        .says("loop: 2 iterations done; iterations=2 accepted=1 best=1.0000")
        .warns("--on-complete: cannot run `false`");
    assert_eq!(done.stdout.lines().count(), 3, "{}", done.stdout);
    assert!(bed.read("agent/agent.py").contains("hard"));
    let message = bed.git(&["log", "-1", "--format=%B"]);
    for part in
        ["the agent lacks skills", "Gave it more skills.", "Autoharness-Iteration: 1", "Autoharness-Verdict: passed"]
    {
        assert!(message.contains(part), "{message}");
    }
    let refs = bed.git(&["for-each-ref", "--format=%(refname)", "refs/autoharness/candidates"]);
    assert_eq!(refs, "refs/autoharness/candidates/2-1", "the rejected one stays");
    assert!(bed.git(&["show", "refs/autoharness/candidates/2-1:agent/agent.py"]).contains("odd"));
    bed.run(&["report"]).expect(0);
    let page = bed.read("workspace/report.html");
    assert!(
        page.contains("git keeps it as <code>refs/autoharness/candidates/2-1</code>")
            && !page.contains("No commit that")
    );
    let hypothesis = "<b>Hypothesis: </b> the agent lacks skills that train asks for (fake)";
    assert!(page.replace("</b>", "</b> ").replace("  ", " ").contains(hypothesis));
    assert!(page.contains("<td>coding agent</td>") && page.contains("<td>$0.25</td>"), "what its sessions used");
    bed.run(&["learnings", "--kept"]).expect(0).says("1    kept      tool").says("learnings: 1 of 2 sections");
    bed.run(&["learnings", "--rejected", "--surface", "tool"]).expect(0).says("2    rejected");
    bed.run(&["verify"]).expect(0);
    bed.run(&["status"]).expect(0).says("proposals   2: 1 accepted, 1 rejected, 0 unusable");

    let proposed = bed.events("proposed");
    assert_eq!(proposed[0]["end"], "accepted");
    assert_eq!(proposed[0]["predicted"]["fixed"], json!(["hard-1"]));
    assert_eq!(proposed[0]["predicted"]["not_fixed"], json!(["odd-1"]));
    assert_eq!(proposed[0]["usage"]["cost_usd"], 0.25);
    assert_eq!((&proposed[1]["usage"]["cost_usd"], &proposed[1]["usage"]["unpriced"]), (&json!(0.0), &json!(1)));

    let sessions = night.sessions();
    assert_eq!(sessions[0]["env"]["PROPOSER_KEY"], "sk-of-the-proposer");
    assert_eq!(sessions[0]["env"].get("BENCH_API_KEY"), None, "the benchmark's keys are not the coding agent's");
    assert!(!sessions[0]["cwd"].as_str().unwrap().starts_with(bed.root.to_str().unwrap()));
    assert!(!sessions[0]["program"].as_str().unwrap().contains("What was tried"));
    assert!(sessions[1]["program"].as_str().unwrap().contains("- 1 (kept) [tool] the agent lacks skills"));
    assert_eq!(
        sessions[0]["workspace"],
        json!([".desk", "learnings.md", "results.tsv", "suite.json", "traces", "train_results.json"])
    );
    let transcript = bed.read("workspace/sessions/001/transcript.jsonl");
    assert_eq!(transcript, "{\"said\": \"***\"}\n");
    assert_eq!(bed.read_json("workspace/sessions/001/usage.json")["tokens"], 1000);
    let told = std::fs::read_to_string(told).unwrap();
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&told[0]["end"], &told[1]["end"]), (&json!("accepted"), &json!("rejected")));
    night.tidy();

    let hidden: Vec<_> = bed.files_with(&["easy-3", "hard-4"]);
    assert!(hidden.is_empty(), "hold-out tasks are named in {hidden:?}");
}

#[test]
fn several_proposals_race_on_train_for_one_look_at_the_hold_out() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    night.plan(json!([
        {"skills": ["easy", "odd"]},
        {"skills": ["easy", "hard", "odd"]},
        {"skills": ["easy", "hard"]},
    ]));
    let verdicts = bed.events("verdict").len();
    let done = night.run(&["--candidates", "3", "--iterations", "1"]).expect(0);
    done.says("iteration 1: accepted").warns("candidate 2 leads on train");
    assert_eq!(night.sessions().len(), 3);
    assert_eq!(bed.events("verdict").len(), verdicts + 1, "three ideas cost one look");
    let agent = bed.read("agent/agent.py");
    assert!(["easy", "hard", "odd"].iter().all(|skill| agent.contains(skill)), "{agent}");
    let proposed = bed.events("proposed").pop().unwrap();
    assert_eq!(proposed["outdone"].as_array().unwrap().len(), 2, "{proposed}");
    assert!(proposed["outdone"][0]["train"].as_f64().unwrap() < 1.0);
    let refs = bed.git(&["for-each-ref", "--format=%(refname:lstrip=3)", "refs/autoharness/candidates"]);
    assert_eq!(refs, "1-1\n1-3", "what was left behind stays");
    let learnings = bed.read("workspace/learnings.md");
    let before = learnings.split_once(" Behind it on train (").unwrap().0;
    assert!(before.ends_with('.'), "{learnings}");
    let ran = bed.events("trial");
    let different: std::collections::BTreeSet<String> = ran
        .iter()
        .map(|trial| json!([trial["agent"], trial["protocol"], trial["task"], trial["trial"]]).to_string())
        .collect();
    assert_eq!(different.len(), ran.len(), "no trial was run twice");
    // The luck of the best of three is no evidence for it: what chose it stands apart, and the gate has measured anew.
    let of_race = |trial: &&Value| trial["protocol"].as_str().unwrap().ends_with(" to choose");
    let verdict = bed.events("verdict").pop().unwrap();
    let (race, gate): (Vec<&Value>, Vec<&Value>) =
        ran.iter().filter(|trial| trial["agent"] == verdict["agent"]).partition(of_race);
    assert!(race.len() == 6 && race.iter().all(|trial| trial["split"] == "train"), "{race:?}");
    assert!(gate.iter().any(|trial| trial["split"] == "train"), "{gate:?}");
    night.tidy();

    // A proposer that repeats another one's proposal is asked for something else, once.
    night.plan(json!([{"skills": ["odd"]}]));
    night.run(&["--candidates", "2", "--iterations", "1"]).expect(0).says("iteration 2: rejected");
    assert_eq!(night.sessions().len(), 3, "the second one was sent back, and had nothing else");
    bed.run(&["verify"]).expect(0);
    night.tidy();
}

#[test]
fn a_terminal_shows_one_screen_and_a_pipe_a_line_for_each_stage() {
    let night = Night::new(json!({}), "fence: off");
    let bed = &night.bed;
    night.plan(json!([
        {"skills": ["easy", "hard"], "proposal": null, "usage": {"cost_usd": 0.5, "tokens_in": 70}},
        {"skills": ["easy", "hard"], "usage": {"cost_usd": 0.5}},
        {"skills": ["odd"], "usage": {"cost_usd": 0.25}, "hold": true},
    ]));
    let words = ["--iterations", "2", "--budget-usd", "9", "--budget-trials", "500"];
    let mut running = on_a_terminal(&night.command(&words)).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let sent = Sent::by(running.stdout.take().unwrap());
    // What is too short to be seen is not drawn; a stage that lasts is.
    until("the screen shows the session", || {
        sent.text().contains("now       iteration 2: fake proposes (session 003)")
    });
    until("the second session is held", || night.place("held").exists());
    std::fs::write(night.place("release"), "").unwrap();
    assert!(running.wait().unwrap().success());
    let sent = sent.whole();
    let lines = shown(&sent);
    let of = |name: &str| lines.iter().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    let head = bed.git(&["rev-parse", "--short", "HEAD"]);
    assert_eq!(of("best"), [&format!("best      val_score 1.0000 ({head}), baseline 0.5000")], "{lines:#?}");
    assert_eq!(of("now").len(), 1, "{lines:#?}");
    assert_eq!(of("done"), ["done      2 of 2 iterations, 1 accepted; 1 of 5 in a row without"]);
    let spent = of("spent");
    assert!(spent.len() == 1 && spent[0].starts_with("spent     $1.25 of $9.00, "), "{lines:#?}");
    assert!(spent[0].contains(" of 500 trials, 70 tokens, ") && spent[0].ends_with(" h"), "{lines:#?}");
    assert!(of("last")[0].starts_with("last      iteration 1: accepted [tool] the agent lacks skills"), "{lines:#?}");
    assert!(of("          iteration 2: rejected").len() == 1 && of("iteration").is_empty(), "{lines:#?}");
    assert!(lines.last().unwrap().starts_with("loop: 2 iterations done; iterations=2 accepted=1"), "{lines:#?}");
    assert!(sent.matches("best      ").count() > 1, "it was written over what was there");
    night.tidy();

    let command = night.command(&["--arm", "resample", "--iterations", "1"]);
    let done = crate::support::done(on_a_terminal(&command).output().unwrap()).expect(0);
    let lines = shown(&done.stdout);
    for line in ["best      0.5000, best of 1 (mean 0.5000), of the unchanged agent", "done      1 of 1 runs"] {
        assert_eq!(lines.iter().filter(|one| *one == line).count(), 1, "{lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("last      run 1: the unchanged agent, val_score=0.5000")));
    assert_eq!(lines.last().map(String::as_str), Some("loop: 1 iterations done; runs=1"), "{lines:#?}");

    let done = crate::support::done(on_a_terminal(&command).env("TERM", "dumb").output().unwrap()).expect(0);
    let done = done.says("run 2 of the unchanged agent").says("run 2: the unchanged agent, val_score=0.5000");
    assert!(!done.stdout.contains('\x1b'), "nothing is drawn over: {}", done.stdout);

    night.plan(json!([{"skills": ["odd", "easy"]}]));
    let done = night.run(&["--iterations", "1"]).expect(0).says("iteration 3: rejected");
    assert!(!done.stderr.contains('\x1b') && !done.stderr.contains("best  "), "{}", done.stderr);
    for stage in ["iteration 3: evidence of the committed agent", "iteration 3: fake proposes", "iteration 3: gate"] {
        assert!(done.stderr.lines().any(|line| line.starts_with(stage)), "{}", done.stderr);
    }
}

#[test]
fn an_edit_says_which_groups_of_files_it_touched() {
    let night = Night::new(
        json!({}),
        "editable: [agent/agent.py, agent/prompts]\nsurfaces: {code: [agent/agent.py], prompt: [agent/prompts]}",
    );
    let bed = &night.bed;
    night.plan(json!([
        {"skills": ["easy", "hard"], "files": {"agent/prompts/deep/hint.md": "think"}},
        {"skills": ["odd"]},
    ]));
    night
        .run(&["--iterations", "2"])
        .expect(0)
        .says("iteration 1: accepted [tool] (code, prompt) the agent lacks skills")
        .says("iteration 2: rejected [tool] (code) the agent lacks skills");
    let touched: Vec<Value> = bed.events("proposed").into_iter().map(|proposed| proposed["touched"].clone()).collect();
    assert_eq!(touched, [json!(["code", "prompt"]), json!(["code"])]);
    bed.run(&["status"])
        .expect(0)
        .says("accepted by surface: tool 1/2")
        .says("accepted by what they touched: code 1/2, prompt 1/1");
    let status = &bed.run(&["status", "--format", "json"]).expect(0).json()[0];
    assert_eq!(status["proposals"]["groups"], json!({"code": [2, 1], "prompt": [1, 1]}));
    assert!(bed.read("workspace/learnings.md").contains("- Surface: tool\n- Touched: code, prompt\n- Result: "));
    let learnings = bed.run(&["learnings", "--format", "json"]).expect(0).json();
    assert_eq!(learnings[0]["touched"], json!(["code", "prompt"]));
    bed.run(&["report"]).expect(0);
    assert!(bed.read("workspace/report.html").contains(", touched code, prompt – the agent lacks skills"));
    bed.run(&["verify"]).expect(0);
    night.tidy();
}

#[test]
fn what_cannot_be_judged_is_sent_back_once() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    night.plan(json!([
        {"skills": ["easy", "hard"], "files": {"bench.py": "cheat()"}},
        {"skills": ["easy", "hard"], "files": {"bench.py": bed.read("bench.py")}, "proposal": null},
        {"proposal": null},
        {"skills": ["easy"], "proposal": "no front matter"},
    ]));
    night
        .run(&["--iterations", "2"])
        .expect(0)
        .says("iteration 1: accepted")
        .says("iteration 2: unusable; proposal.md must begin with front matter")
        .warns("iteration 1: sent back: only editable files may be changed: bench.py");
    let sessions = night.sessions();
    assert_eq!(sessions.len(), 4);
    assert!(sessions[1]["told"].as_str().unwrap().contains("bench.py"));
    assert_eq!(sessions[0]["cwd"], sessions[1]["cwd"], "it goes on where it was");
    let told = sessions[3]["told"].as_str().unwrap();
    assert!(told.contains("proposal.md is missing") && told.contains("no editable file was changed"), "{told}");
    assert_eq!(bed.events("verdict").len(), 1, "only what can be judged comes before the gate");
    bed.run(&["learnings"]).expect(0).says("2    none      -");
    night.tidy();

    night.plan(json!([{"skills": ["easy", "odd"], "files": {"agent/agent.py": "SKILLS = {"}}, {"skills": ["easy", "hard", "odd"]}]));
    night.run(&["--target", "1"]).expect(0).says("loop: val_score 1.0000 is reached; iterations=0");
    night.run(&["--iterations", "1"]).expect(0).says("iteration 3: accepted").warns("the agent cannot be imported");
    night.tidy();
}

#[test]
fn failures_of_the_coding_agent_are_no_iterations_and_three_are_enough() {
    let night = Night::new(json!({}), "loop_timeout: 1\nfence: off");
    let bed = &night.bed;
    night.plan(json!([
        {"exit": 1, "stderr": "API key sk-of-the-proposer is invalid"},
        {"hang": true},
        {"skills": ["odd"], "exit": 7, "stderr": "line 429, in <module>\nKeyError"},
        {"exit": 1, "stderr": "429 Too Many Requests; retry after 0.01 s"},
        {"skills": ["easy", "hard"]},
    ]));
    night
        .run(&["--iterations", "1"])
        .expect(3)
        .warns("fake: it ended with exit status 1: API key *** is invalid (failure 1 of 3 in a row)")
        .warns("fake: it took longer than 1 s (failure 2 of 3 in a row)")
        .warns("3 failures in a row; the last: fake: it ended with exit status 7");
    assert_eq!(bed.events("proposed").len(), 0);
    assert!(bed.ran().is_empty(), "nothing was judged");
    nobody_left(bed);
    night
        .run(&["--iterations", "1"])
        .expect(0)
        .warns("going on with iteration 1")
        .warns("waiting 1 s")
        .says("iteration 1: accepted");
    assert_eq!(night.sessions().len(), 5);
    assert_eq!(bed.events("proposed")[0]["usage"]["sessions"], 5);
    night.tidy();
}

#[test]
fn a_budget_stops_before_the_next_paid_step_and_what_was_paid_for_counts() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    night.plan(json!([{"skills": ["easy", "hard"], "usage": {"cost_usd": 1.0}}, {"skills": ["easy"]}]));
    night.run(&["--budget-usd", "0.75"]).expect(0).says("loop: $1.00 of $0.75 are spent; iterations=0 accepted=0");
    assert!(bed.ran().is_empty(), "the gate costs, too");
    assert!(bed.state().join("loop.json").exists());
    bed.run(&["status"]).expect(0);
    // The other arm leaves what the search has not finished to the search, and pays for none of it.
    night
        .run(&["--arm", "resample", "--budget-usd", "0.5", "--iterations", "1"])
        .expect(0)
        .says("run 1: the unchanged agent")
        .says("loop: 1 iterations done; runs=1");
    assert!(night.sessions().len() == 1 && bed.state().join("loop.json").exists());
    night
        .run(&["--budget-usd", "5", "--iterations", "1"])
        .expect(0)
        .warns("going on with iteration 1")
        .says("iteration 1: accepted");
    assert_eq!(night.sessions().len(), 1, "the session was paid for already");
    night.tidy();
    night
        .run(&["--budget-usd", "0.5", "--iterations", "1"])
        .expect(0)
        .says("loop: $0.00 of $0.50 are spent, and the next step costs about $1.00");
    night
        .run(&["--budget-usd", "5", "--patience", "1"])
        .expect(0)
        .says("loop: sessions or trials reported no dollars, so the budget cannot be kept");
    night.run(&["--budget-trials", "3"]).expect(0).says("loop: 0 of 3 trials are used, and the next step takes about");
    night.run(&["--hours", "0.0000001"]).expect(0).says("loop: 0.0000001 h are over");
    bed.run(&["loop", "--with", "codex", "--budget-usd", "1"]).expect(2).warns("codex reports no dollars");
}

#[test]
fn it_goes_on_after_a_kill_at_any_point() {
    let (_directory, gate) = Gate::new();
    gate.let_through(None);
    let night = Night::new(json!({"gate": gate.path()}), "");
    let bed = &night.bed;
    let state = bed.state().join("loop.json");
    night.plan(
        json!([{"skills": ["easy", "hard"], "hold": true}, {"skills": ["easy"]}, {"skills": ["easy", "hard", "odd"]}]),
    );

    // While the coding agent works; what it has finished is not asked for again.
    let held = night.place("held");
    let running = Running::start(night.command(&["--iterations", "1"]));
    until("the coding agent is held", || held.exists());
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    nobody_left(bed);

    // While the gate measures the hold-out.
    gate.let_through(Some(1));
    let running = Running::start(night.command(&["--iterations", "1"]));
    gate.held("test");
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    nobody_left(bed);
    gate.let_through(None);
    let at_the_gate: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!(at_the_gate["current"]["stage"], "gating");

    let done = night.run(&["--iterations", "1"]).expect(0).warns("going on with iteration 1");
    done.says("iteration 1: accepted").says("iterations=1 accepted=1");
    assert_eq!(night.sessions().len(), 1, "no session is paid for twice");
    night.paid_once();
    night.tidy();

    // Between what a step does and the note that it is done: everything is there already.
    let head = bed.git(&["rev-parse", "HEAD"]);
    let counts = |bed: &Bed| (bed.events("verdict").len(), bed.events("recorded").len(), bed.events("proposed").len());
    let before = (counts(bed), bed.read("workspace/learnings.md"));
    for (stage, end) in [("passed", None), ("committed", None), ("ended", Some("accepted"))] {
        let mut state_then = at_the_gate.clone();
        state_then["current"]["stage"] = json!(stage);
        state_then["current"]["end"] = json!(end);
        state_then["current"]["section"] = json!(1);
        // What its name was taken from is still there, as git collects nothing that fast.
        std::fs::write(&state, state_then.to_string()).unwrap();
        night.run(&["--iterations", "1"]).expect(0).says("iteration 1: accepted");
        assert_eq!((counts(bed), bed.read("workspace/learnings.md")), before, "{stage}");
        assert_eq!(bed.git(&["rev-parse", "HEAD"]), head, "{stage}");
        night.tidy();
    }

    // Ctrl-C once: the step under way is the last; twice: now.
    let plan = json!([{"skills": ["easy"], "hold": true}]);
    for (signals, expected) in [(2, 0), (1, 1)] {
        night.plan(plan.clone());
        std::fs::remove_file(&held).ok();
        let release = night.place("release");
        std::fs::remove_file(&release).ok();
        // What killed gates have heard before is none of these.
        std::fs::remove_file(bed.state().join("autoharness.log")).unwrap();
        let running = Running::start(night.command(&["--iterations", "1"]));
        until("the coding agent is held", || held.exists());
        for number in 0..signals {
            running.signal(Signal::INT);
            // The second is another one only when the first has been heard.
            until("the signal is heard", || heard(bed) > number);
        }
        if signals == 1 {
            std::fs::write(&release, "").unwrap();
        }
        running.end().expect(130).warns("run `autoharness loop --with fake --iterations 1` again");
        nobody_left(bed);
        let stage: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
        assert_eq!(stage["current"]["stage"] == "proposed", expected == 1, "{stage}");
        std::fs::remove_file(&state).unwrap();
    }
}

/// How many signals the commands of this bed have heard, by their log.
fn heard(bed: &Bed) -> usize {
    let log = std::fs::read_to_string(bed.state().join("autoharness.log")).unwrap_or_default();
    log.matches("signal received").count()
}

#[test]
fn the_coding_agent_is_fenced_in() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    let doctor = bed.run(&["doctor"]);
    if !doctor.stdout.contains("loop's fence   a canary could not read ledger, agent or configuration (3 files tried)")
    {
        return crate::support::skipped("this machine has no fence of files");
    }
    let parent = std::process::id();
    night.plan(json!([{"skills": ["easy", "hard"], "reads": {
        "ledger": bed.ledger(), "agent": bed.root.join("agent/agent.py"), "tasks": bed.outside().join("tasks.json"),
        "keys": format!("/proc/{parent}/environ"), "itself": "/proc/self/environ", "program": "PROGRAM.md",
    }}]));
    night.run(&["--iterations", "1"]).expect(0).says("iteration 1: accepted");
    let read: Value = serde_json::from_slice(&std::fs::read(night.place("read.json")).unwrap()).unwrap();
    let expected =
        json!({"ledger": false, "agent": false, "tasks": false, "keys": false, "itself": true, "program": true});
    assert_eq!(read, expected);
}

#[test]
fn a_killed_canary_leaves_nothing_behind_the_next_checks() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    if !bed.run(&["doctor"]).stdout.contains("loop's fence   a canary could not read") {
        return crate::support::skipped("this machine has no fence of files");
    }
    let programs = bed.outside().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let hangs = "#!/bin/sh\n[ \"$3\" = canary ] && : >hangs && exec sleep 600\nexec /bin/sh \"$@\"\n";
    std::fs::write(programs.join("sh"), hangs).unwrap();
    std::fs::set_permissions(programs.join("sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut doctor = bed.command(&["doctor"]);
    let path = doctor.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
    doctor.env("PATH", format!("{}:{}", programs.display(), path.display())).env("TMPDIR", night.place("tmp"));
    std::fs::create_dir(night.place("tmp")).unwrap();
    let running = Running::start(doctor);
    let left = |name: &str| {
        let entries = walkdir::WalkDir::new(bed.outside()).into_iter().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(name)).count()
    };
    until("the canary hangs", || left("hangs") == 1);
    running.signal(Signal::KILL);
    running.end().expect(137);
    nobody_left(bed);
    bed.run(&["doctor"]).expect(0).says("loop's fence   a canary could not read");
    assert_eq!((left("hangs"), left("checks-"), left(".tmp")), (0, 0, 0));
}

#[test]
fn dollars_that_no_trial_reports_are_not_taken_for_none() {
    let unpriced = Night::new(json!({"tokens": 1_000_000}), "");
    unpriced.plan(json!([{"skills": ["easy", "hard"], "usage": {"cost_usd": 0.25}}]));
    unpriced
        .run(&["--iterations", "1", "--budget-usd", "100"])
        .expect(2)
        .warns("10 trials so far reported tokens and no dollars, so --budget-usd cannot be kept")
        .warns("set `trial_prices`");
    unpriced.bed.run(&["status"]).expect(0).says("10000000 tokens (10 trials reported no dollars)");

    // Three dollars a trial: the baseline's are before the loop, and a gate takes more than what is left.
    let priced = Night::new(json!({"tokens": 1_000_000}), "trial_prices: {input: 3, output: 15}");
    priced.plan(json!([{"skills": ["easy", "hard"], "usage": {"cost_usd": 0.25}}]));
    assert!(priced.bed.events("trial").iter().all(|trial| trial["cost_usd"] == 3.0));
    priced
        .run(&["--iterations", "1", "--budget-usd", "5"])
        .expect(0)
        .says("loop: $0.25 of $5.00 are spent, and the next step costs about $");
    priced.bed.run(&["status"]).expect(0).says("10000000 tokens, $30.00");
    priced.run(&["--iterations", "1", "--budget-usd", "500"]).expect(0).says("iteration 1: accepted");
}

#[test]
fn it_begins_only_where_nothing_of_anybody_else_lies() {
    let night = Night::new(json!({}), "");
    let bed = &night.bed;
    night.plan(json!([{"skills": ["easy", "hard"]}]));
    night
        .run(&["--dry-run", "--iterations", "3"])
        .expect(0)
        .says("agent       fake, one session of at most 60 min")
        .says("ends after  3 iterations, or 5 iterations in a row without an accepted edit")
        .says("session     time unknown, dollars unknown")
        .says("gate        up to 8 trials");
    bed.agent(&["easy", "odd"]);
    night.run(&["--iterations", "1"]).expect(2).warns("the work tree is not clean: agent/agent.py");
    bed.commit_agent();
    night.run(&["--iterations", "1"]).expect(2).warns("the work tree is not clean: agent/agent.py");
    bed.git(&["reset", "-q", "--hard", "HEAD~1"]);
    bed.write("notes.txt", "mine");
    night.run(&["--iterations", "1"]).expect(2).warns("the work tree is not clean: notes.txt");
    std::fs::remove_file(bed.root.join("notes.txt")).unwrap();
    bed.run(&["loop", "--with", "nobody"]).expect(2).warns("known are claude, codex, gemini, opencode, fake");
    bed.run(&["loop", "--hours", "0"]).expect(2).warns("expects a number above 0");
    assert!(night.sessions().is_empty() && !bed.state().join("loop.json").exists());
}
