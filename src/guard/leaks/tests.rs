use proptest::prelude::*;
use serde_json::json;

use super::*;

fn scan(added: &[AddedLine], before: &str, tasks: &[TaskText], models: &[&str]) -> Vec<String> {
    super::scan(added, &Sought::new(added), before, tasks, models)
}

fn task(id: &str, asked: &[&str], expected: &[&str]) -> TaskText {
    let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
    TaskText { id: id.into(), asked: owned(asked), expected: owned(expected) }
}

fn tasks() -> Vec<TaskText> {
    vec![
        task("times-03", &["Write this time as HH:MM: five to seven in the morning"], &["06:55"]),
        task("times-04", &["Write this time as HH:MM: twenty past nine"], &["09:20"]),
        task("times-05", &["Write this time as HH:MM: noon"], &["12:00"]),
        task("17", &["Please cancel both of my flights to Boston next Tuesday and refund the fees"], &["no"]),
        task("lists-01", &["Sort: green tea, pears"], &["green tea, pears"]),
    ]
}

fn lines(text: &str) -> Vec<AddedLine> {
    let number = |index: usize| u32::try_from(index).unwrap() + 1;
    let line =
        |(index, text): (usize, &str)| AddedLine { file: "agent.py".into(), number: number(index), text: text.into() };
    text.lines().enumerate().map(line).collect()
}

fn found(text: &str) -> Vec<String> {
    scan(&lines(text), "def write(time):\n    return 'HH:MM'\n", &tasks(), &["scripted-model"])
}

#[test]
fn what_is_copied_or_set_is_named_with_its_line() {
    for (text, expected) in [
        ("KNOWN = {'times-03': 1}", "names train task times-03"),
        ("if case == times-04:", "names train task times-04"),
        ("if task_id == '17':", "names train task 17"),
        ("    'five to seven in the morning': 1,", "quotes train task times-03"),
        ("    x['6 a.m.'] = '06:55'", "holds the expected answer of train task times-03"),
        ("    # cancel both of my flights to Boston next Tuesday", "repeats 8 words or more of train task 17"),
        ("MODEL = 'openai/gpt-5-mini'", "names the model openai/gpt-5-mini"),
        ("model = \"o3-mini\"", "names the model o3-mini"),
        ("    model='scripted-model',", "names the model scripted-model"),
        ("    reasoning_effort=\"high\",", "sets a reasoning effort"),
        ("    'budget_tokens': 4096,", "sets a reasoning effort"),
        ("random.seed(7)", "sets a seed"),
        ("    seed=1,", "sets a seed"),
    ] {
        assert_eq!(found(text), [format!("agent.py:1: {expected}")], "{text}");
    }
}

#[test]
fn ordinary_edits_say_nothing() {
    for text in [
        "if number == 17:",
        "RETRIES = 17",
        "seven = words['seven']",
        "def morning(text):  # five to seven",
        "return f'{hours:02}:{minutes:02}'",
        "if answer == 'no':",
        "self.seeds = plant(seed_bank)",
        "if seed == other:",
        "# Write this time as HH:MM, whatever the question is about, and say so",
        "model = self.model",
        "log('o3 is the formula of ozone')",
        "times = [3, 4]",
        "",
    ] {
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_run_of_words_may_go_over_lines_that_follow_each_other() {
    let text = "PROMPT = '''cancel both of my\nflights to Boston\nnext Tuesday and refund'''";
    assert_eq!(found(text), ["agent.py:1: repeats 8 words or more of train task 17"]);
    let mut apart = lines(text);
    apart[1].number += 7;
    apart[2].number += 9;
    assert_eq!(scan(&apart, "", &tasks(), &[]), Vec::<String>::new());
}

#[test]
fn what_the_agent_held_before_and_what_many_tasks_say_is_not_the_edits() {
    let wording = "You are talking to a customer of the airline whose reservation must be found first";
    let many: Vec<TaskText> = (0..3).map(|n| task(&format!("case-{n}-x"), &[wording], &["resolved"])).collect();
    let edit = lines(&format!("PROMPT = '{wording}'"));
    assert_eq!(scan(&edit, "", &many, &[]), Vec::<String>::new());
    assert_eq!(scan(&edit, "", &many[..2], &[]).len(), 1);
    assert_eq!(scan(&edit, wording, &many[..2], &[]), Vec::<String>::new());
    assert_eq!(scan(&lines("x = 'resolved'"), "y = 'resolved'", &many[..1], &[]), Vec::<String>::new());
}

#[test]
fn traces_and_breakdowns_tell_what_was_asked_and_expected() {
    let mut read = TaskText::default();
    read.read(&json!({
        "messages": [
            {"role": "system", "content": "policy"},
            {"role": "user", "content": "hello"},
            {"role": "user", "content": [{"type": "text", "text": "and more"}, {"type": "image"}]},
            {"role": "assistant", "content": "answer"},
        ],
        "instruction": "do it", "detail": {"expected": "4", "gold_sql": "SELECT 1"}, "expected": 5,
    }));
    assert_eq!(read.asked, ["hello", "and more", "do it"]);
    assert_eq!(read.expected, ["4", "SELECT 1"]);
    let mut deep = json!({"expected": "too deep"});
    for _ in 0..DEEPEST {
        deep = json!([deep]);
    }
    let mut none = TaskText::default();
    none.read(&deep);
    assert_eq!(none, TaskText::default());
}

#[test]
fn only_added_lines_count() {
    let files =
        |text: &str| EditableFiles::from([(b"a.py".to_vec(), EditableFile { bytes: text.into(), executable: false })]);
    let of = |before: &str, now: &str| added(&files(before), &files(now)).unwrap();
    assert_eq!(of("one\ntwo\n", "one\ntwo\n"), []);
    assert_eq!(of("one\ntwo\n", "two\n"), []);
    let third = AddedLine { file: "a.py".into(), number: 2, text: "three".into() };
    assert_eq!(of("one\ntwo\n", "one\nthree\r\ntwo\n"), [third]);
    assert_eq!(added(&EditableFiles::new(), &files("x\ny")).unwrap().len(), 2);
    assert_eq!(of("", "\0binary\n").len(), 1);
}

proptest! {
    #[test]
    fn nothing_makes_it_panic_and_nothing_added_finds_nothing(text in ".{0,200}", id in ".{0,12}", said in ".{0,80}") {
        let known = [task(&id, &[&said], &[&said])];
        let findings = scan(&lines(&text), &said, &known, &[&id]);
        prop_assert!(findings.len() <= text.lines().count());
        prop_assert!(scan(&[], &text, &known, &[]).is_empty());
    }
}

#[test]
fn the_texts_of_tasks_are_read_only_for_lines_that_could_hold_some() {
    let line = |text: &str| AddedLine { file: "agent/agent.py".into(), number: 1, text: text.into() };
    let wants = |lines: &[AddedLine]| Sought::new(lines).needs_texts();
    assert!(!wants(&[line("SKILL = 7"), line("    return tasks + 1")]));
    assert!(wants(&[line("answer = 'forty two'")]));
    assert!(wants(&[line("# one two three four five six seven eight nine")]));
}
