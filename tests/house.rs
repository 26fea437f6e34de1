//! The arrows in CONTRIBUTING are those of the code, no files of `src/` use each other in a circle, no two types
//! have one name, and the guides of its folders name their files.
#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources should panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A module by its path from the crate's root: `["store", "ledger"]`.
type Module = Vec<String>;

struct House {
    /// The text of every module.
    modules: BTreeMap<Module, String>,
}

impl House {
    fn read() -> House {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut modules = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&src) {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(&src).unwrap().with_extension("");
            if entry.path().extension().is_none_or(|extension| extension != "rs") || path == Path::new("main") {
                continue;
            }
            let mut module: Module = path.iter().map(|part| part.to_str().unwrap().to_string()).collect();
            if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
                module.pop();
            }
            modules.insert(module, fs_err::read_to_string(entry.path()).unwrap());
        }
        House { modules }
    }

    /// What the `use` lines of a module name, as paths from the root; with each, whether it is exported again. Lines that are
    /// indented belong to inline modules, such as tests.
    fn uses(&self, module: &Module) -> Vec<(Module, bool)> {
        let text = format!("\n{}", self.modules[module]);
        let mut found = Vec::new();
        for (start, exported) in [("\nuse ", false), ("\npub use ", true), ("\npub(crate) use ", true)] {
            for part in text.split(start).skip(1) {
                let tree = part.split(';').next().unwrap();
                let paths = expand(tree).into_iter().filter_map(|path| self.absolute(module, &path));
                found.extend(paths.map(|path| (path, exported)));
            }
        }
        found
    }

    /// What a module names by a path in the middle of its code: `store::views::render(…)`, `super::Loop`.
    fn names(&self, module: &Module) -> Vec<Module> {
        let lines = self.modules[module].lines().take_while(|line| *line != "#[cfg(test)]");
        let code = lines.filter(|line| {
            !["//", "use ", "pub use ", "pub(crate) use "].iter().any(|start| line.trim_start().starts_with(start))
        });
        let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
        let code: Vec<&str> = code.collect();
        let words = code.iter().flat_map(|line| line.split(|character| !is_part(character)));
        let paths = words.filter(|word| word.contains("::") && !word.starts_with(':'));
        paths.filter_map(|path| self.absolute(module, path.trim_end_matches(':'))).collect()
    }

    fn absolute(&self, module: &Module, path: &str) -> Option<Module> {
        let mut parts = path.split("::").map(str::to_string).collect::<Vec<_>>();
        let mut base = module.clone();
        match parts[0].as_str() {
            "crate" => return Some(parts.split_off(1)),
            "self" => return Some([base, parts.split_off(1)].concat()),
            "super" => {
                while parts.first().is_some_and(|part| part == "super") {
                    parts.remove(0);
                    base.pop();
                }
            }
            child => {
                if !self.modules.contains_key(&child_of(module, child)) {
                    return None;
                }
            }
        }
        Some([base, parts].concat())
    }

    /// The module that defines what a path names: the deepest module on it, or the one that the item is exported from.
    fn definer(&self, path: &Module) -> Module {
        let length = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length])).unwrap();
        let (module, item) = (path[..length].to_vec(), path.get(length));
        let exported = item.and_then(|item| {
            self.uses(&module).into_iter().find(|(path, exported)| *exported && path.last() == Some(item))
        });
        match exported {
            Some((from, _)) if from != *path => self.definer(&from),
            _ => module,
        }
    }

    /// Which modules each module uses.
    fn arrows(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let of = |module: &Module| -> BTreeSet<Module> {
            let all = self.uses(module).into_iter().map(|(path, _)| path).chain(self.names(module));
            all.map(|path| self.definer(&path)).filter(|used| used != module && !used.is_empty()).collect()
        };
        self.modules.keys().map(|module| (module.clone(), of(module))).collect()
    }
}

fn child_of(module: &Module, child: &str) -> Module {
    [module.as_slice(), &[child.to_string()]].concat()
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, inside)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_string()];
    };
    let inside = &inside[..inside.rfind('}').unwrap()];
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, character) in inside.char_indices().chain([(inside.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(inside[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.flat_map(|part| expand(&format!("{}{part}", before.trim()))).map(|path| path.replace("::self", "")).collect()
}

#[test]
fn the_arrows_are_those_of_the_diagram() {
    let diagram = include_str!("../CONTRIBUTING.md");
    let allowed: BTreeMap<&str, BTreeSet<&str>> = diagram
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(" ->"))
        .map(|(from, to)| (from.trim(), to.split_whitespace().collect()))
        .collect();
    let mut real: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, used) in House::read().arrows() {
        let Some(from) = module.first() else { continue };
        let to = used.iter().map(|module| module[0].clone()).filter(|to| to != from);
        real.entry(from.clone()).or_default().extend(to);
    }
    assert!(real.len() > 10 && real["commands"].contains("store"), "the sources were not understood: {real:?}");
    for (from, to) in &real {
        let allowed = allowed.get(from.as_str()).unwrap_or_else(|| panic!("CONTRIBUTING does not draw {from}"));
        for to in to {
            assert!(allowed.contains(to.as_str()), "src/{from} uses src/{to}, which CONTRIBUTING does not allow");
        }
    }
}

/// What a module uses, also by way of others.
fn reached<'a>(arrows: &'a BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<&'a Module> {
    let (mut found, mut next): (BTreeSet<&Module>, Vec<&Module>) = (BTreeSet::new(), arrows[from].iter().collect());
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(&arrows[module]);
        }
    }
    found
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let arrows = House::read().arrows();
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        arrows.keys().map(|module| (module, reached(&arrows, module))).collect();
    let circle = |module: &Module| -> Vec<String> {
        let back = reached[module].iter().filter(|used| reached[**used].contains(module));
        back.map(|used| used.join("::")).collect()
    };
    let circles: BTreeSet<Vec<String>> = arrows.keys().map(circle).filter(|circle| !circle.is_empty()).collect();
    assert!(circles.is_empty(), "these files use each other in circles: {circles:#?}");
}

/// The arguments of a command are named as the command is.
#[test]
fn no_two_types_have_one_name() {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (module, text) in
        House::read().modules.iter().filter(|(module, _)| module.first().is_some_and(|at| at != "cli"))
    {
        for line in text.lines().take_while(|line| *line != "#[cfg(test)]") {
            // Those that are indented are a function's own.
            let visible = line.split_once("pub(").and_then(|(_, rest)| Some(rest.split_once(") ")?.1));
            let item = visible.or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
            let Some(rest) = ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| item.strip_prefix(kind))
            else {
                continue;
            };
            let name = rest.split(|letter: char| !letter.is_alphanumeric()).next().unwrap();
            if module.last().unwrap() != "tests" {
                defined.entry(name.into()).or_default().push(module.join("::"));
            }
        }
    }
    assert!(defined.len() > 300 && defined.contains_key("Evidence"), "the sources were not understood");
    defined.retain(|_, modules| modules.len() > 1);
    assert!(defined.is_empty(), "one word, several meanings: {defined:#?}");
}

#[test]
fn a_folders_guide_names_its_files() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let is_guide = |entry: &walkdir::DirEntry| entry.file_name() == "AGENTS.md";
    let guides: Vec<_> = walkdir::WalkDir::new(&src).into_iter().map(Result::unwrap).filter(is_guide).collect();
    assert!(guides.len() >= 4, "guides are missing");
    let mut wrong = Vec::new();
    for guide in guides {
        let (folder, text) = (guide.path().parent().unwrap(), fs_err::read_to_string(guide.path()).unwrap());
        // Names in backticks, of the first column of the table.
        let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let named: BTreeSet<&str> =
            cells.flat_map(|cell| cell.split('`')).filter(|name| !name.is_empty() && *name != ", ").collect();
        for entry in fs_err::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let is_meant = entry.path().is_file() && !["AGENTS.md", "mod.rs"].contains(&name.as_str());
            if is_meant && !named.contains(name.as_str()) {
                wrong.push(format!("{} has no row for {name}", guide.path().display()));
            }
        }
        // `<name>/…` stands for any benchmark.
        for name in named.iter().filter(|name| !name.starts_with('<')) {
            if !folder.join(name).exists() {
                wrong.push(format!("{} has a row for {name}, which is not there", guide.path().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
