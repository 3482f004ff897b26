//! Counts what can be counted of the structure of `src`: lines, import circles, upward arrows, long functions. One file without
//! dependencies: `rustc -O tests/it/structure/numbers.rs -o target/numbers && target/numbers [CHECKOUT]`, or `make numbers`. The integration
//! tests include it and fail on a circle and on an arrow that points up.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms from top to bottom: a room imports from rooms that are below it only.
pub const ROOMS: &[&str] = &[
    "main",
    "lib",
    "commands",
    "daemon",
    "api",
    "protocol",
    "classic",
    "methods",
    "contents",
    "seed",
    "compatibility",
    "datadir",
    "coordinates",
    "stream",
    "http",
    "mysql",
    "process",
    "tls",
    "config",
    "sys",
    "limits",
    "error",
];

/// A source file.
struct File {
    path: PathBuf,
    /// Module path without `crate`: empty for lib.rs.
    module: Vec<String>,
    /// Lines outside tests, with comments.
    lines: Vec<String>,
    lines_of_tests: usize,
}

/// An import: from file to file, and the names by which it is made.
pub type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// What was counted.
pub struct Numbers {
    pub files: usize,
    pub lines: usize,
    pub lines_of_tests: usize,
    /// Each a set of files that import each other.
    pub circles: Vec<Vec<String>>,
    /// Arrows from a room to one above it, with the names that are imported.
    pub upward: Vec<String>,
    pub public: usize,
    /// Functions over 60 lines: length, place.
    pub long: Vec<(usize, String)>,
    pub match_on_bool: Vec<String>,
    pub text_searches: Vec<String>,
    pub cited_papers: Vec<String>,
    pub arrows: Arrows,
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Index of the line that closes the item beginning at `start`, in source that rustfmt has formatted.
fn end_of_item(lines: &[String], start: usize) -> usize {
    let depth = indent(&lines[start]);
    let closes = |l: &String| indent(l) == depth && l.trim_start().starts_with('}');
    for (at, line) in lines.iter().enumerate().skip(start) {
        let text = line.trim_end();
        let first_lines_end =
            at == start && (text.ends_with(';') || (text.contains('{') && text.ends_with('}')));
        let signature_ends = indent(line) == depth && text.ends_with(';');
        if first_lines_end || signature_ends || (at > start && closes(line)) {
            let goes_on = text.trim_start().starts_with("})") || text.ends_with('{');
            if !goes_on || at == start && first_lines_end {
                return at;
            }
        }
    }
    lines.len() - 1
}

fn read(src: &Path, path: &Path) -> File {
    let text = std::fs::read_to_string(path).unwrap();
    let relative = path.strip_prefix(src).unwrap();
    let mut module: Vec<String> = relative
        .with_extension("")
        .iter()
        .map(|c| c.to_string_lossy().into_owned())
        .collect();
    if module
        .last()
        .is_some_and(|m| m == "mod" || (module.len() == 1 && m == "lib"))
    {
        module.pop();
    }
    let all: Vec<String> = text.lines().map(str::to_owned).collect();
    let is_test = module.iter().any(|m| m == "tests" || m.ends_with("_tests"));
    let (mut lines, mut lines_of_tests, mut at) = (Vec::new(), 0, 0);
    while at < all.len() {
        let starts_test = all[at].trim() == "#[cfg(test)]";
        if is_test || starts_test {
            let mut item = at + 1;
            while starts_test && item < all.len() && all[item].trim_start().starts_with("#[") {
                item += 1;
            }
            let end = if is_test {
                all.len() - 1
            } else {
                end_of_item(&all, item.min(all.len() - 1))
            };
            lines_of_tests += end + 1 - at;
            at = end + 1;
        } else {
            lines.push(all[at].clone());
            at += 1;
        }
    }
    File {
        path: relative.to_path_buf(),
        module,
        lines,
        lines_of_tests,
    }
}

/// Identifiers and punctuation of the code, without comments, strings and characters.
fn tokens(lines: &[String]) -> Vec<String> {
    let mut tokens = Vec::new();
    let text = lines
        .iter()
        .filter(|l| !l.trim_start().starts_with("//"))
        .fold(String::new(), |t, l| t + l + "\n");
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        if c == '/' && next == '/' {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if c == 'r'
            && (next == '"' || next == '#')
            && (at == 0 || !chars[at - 1].is_alphanumeric())
        {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            let close: String = std::iter::once('"')
                .chain(std::iter::repeat_n('#', hashes))
                .collect();
            let rest: String = chars[at + 2 + hashes..].iter().collect();
            let length = rest.find(&close).map_or(0, |n| rest[..n].chars().count());
            at += 2 + hashes + length + close.len();
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += 1 + usize::from(chars[at] == '\\');
            }
            at += 1;
        } else if c == '\'' && (next == '\\' || chars.get(at + 2) == Some(&'\'')) {
            at += 2 + usize::from(next == '\\');
            while at < chars.len() && chars[at] != '\'' {
                at += 1;
            }
            at += 1;
        } else if c.is_alphabetic() || c == '_' {
            let word: String = chars[at..]
                .iter()
                .take_while(|c| c.is_alphanumeric() || **c == '_')
                .collect();
            at += word.chars().count();
            tokens.push(word);
        } else if c == ':' && next == ':' {
            tokens.push("::".into());
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            at += 1;
        }
    }
    tokens
}

/// Flattens a path or a tree of `use` that begins at `at`, and says where it ends.
fn paths(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<(Vec<String>, String)>,
) -> usize {
    let mut path = prefix.to_vec();
    loop {
        let Some(token) = tokens.get(at) else {
            return at;
        };
        if token == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|t| t != "}") {
                at = paths(tokens, at, &path, found);
                if tokens.get(at).is_some_and(|t| t == ",") {
                    at += 1;
                }
            }
            return at + 1;
        }
        path.push(token.clone());
        at += 1;
        if tokens.get(at).is_some_and(|t| t == "::") && tokens.get(at + 1).is_some_and(|t| t != "<")
        {
            at += 1;
            continue;
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if tokens.get(at).is_some_and(|t| t == "as") {
            name = tokens.get(at + 1).cloned().unwrap_or_default();
            at += 2;
        }
        if path.last().is_some_and(|l| l == "self") {
            path.pop();
            name = path.last().cloned().unwrap_or_default();
        }
        found.push((path, name));
        return at;
    }
}

/// Absolute form (without `crate`) of a path written in `module`.
fn absolute(
    path: &[String],
    module: &[String],
    children: &BTreeSet<String>,
    nested: usize,
) -> Option<Vec<String>> {
    let mut base = module.to_vec();
    match path.first().map(String::as_str) {
        Some("crate") => Some(path[1..].to_vec()),
        Some("self") => Some(base.into_iter().chain(path[1..].iter().cloned()).collect()),
        Some("super") => {
            let ups = path.iter().take_while(|p| *p == "super").count();
            let files_up = ups.checked_sub(nested).filter(|n| *n > 0)?;
            base.truncate(base.len().saturating_sub(files_up));
            Some(
                base.into_iter()
                    .chain(path[ups..].iter().cloned())
                    .collect(),
            )
        }
        Some(first) if children.contains(first) && path.len() > 1 => {
            Some(base.into_iter().chain(path.iter().cloned()).collect())
        }
        _ => None,
    }
}

/// All imports of a file as absolute paths; of those made by `pub use`, also the name under which they are passed on.
fn imports(
    file: &File,
    children: &BTreeSet<String>,
) -> (BTreeSet<Vec<String>>, BTreeMap<String, Vec<String>>) {
    let tokens = tokens(&file.lines);
    let (mut all, mut passed_on) = (BTreeSet::new(), BTreeMap::new());
    // Depths of braces at which modules within this file begin.
    let (mut depth, mut inline) = (0usize, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at].as_str();
        match token {
            "mod" if tokens.get(at + 2).is_some_and(|t| t == "{") => inline.push(depth),
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline.retain(|d| *d < depth);
            }
            _ => {}
        }
        // Within a path, or in `pub(in crate::config)`.
        let in_path = at > 0 && (tokens[at - 1] == "::" || tokens[at - 1] == "in");
        if token == "use" && !in_path {
            let is_public = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
            let mut found = Vec::new();
            at = paths(&tokens, at + 1, &[], &mut found);
            for (path, name) in found {
                let Some(path) = absolute(&path, &file.module, children, inline.len()) else {
                    continue;
                };
                if is_public {
                    passed_on.insert(name, path.clone());
                }
                all.insert(path);
            }
            continue;
        }
        let begins = !in_path
            && tokens.get(at + 1).is_some_and(|t| t == "::")
            && (matches!(token, "crate" | "super" | "self") || children.contains(token));
        if begins {
            let mut found = Vec::new();
            at = paths(&tokens, at, &[], &mut found);
            all.extend(
                found
                    .iter()
                    .filter_map(|(path, _)| absolute(path, &file.module, children, inline.len())),
            );
            continue;
        }
        at += 1;
    }
    (all, passed_on)
}

type PassedOn = BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>;

/// The module in which the item of a path is defined, and the item's name; `pub use` is followed.
fn resolve(
    path: &[String],
    modules: &BTreeSet<Vec<String>>,
    passed_on: &PassedOn,
    depth: usize,
) -> Option<(Vec<String>, String)> {
    let known = (0..=path.len())
        .rev()
        .find(|n| modules.contains(&path[..*n]))?;
    let (module, rest) = path.split_at(known);
    let Some(name) = rest.first() else {
        return Some((module.to_vec(), String::new()));
    };
    let further = passed_on
        .get(module)
        .and_then(|p| p.get(name))
        .filter(|_| depth < 8);
    match further {
        Some(target) => {
            let target: Vec<String> = target.iter().chain(&rest[1..]).cloned().collect();
            resolve(&target, modules, passed_on, depth + 1)
        }
        None => Some((module.to_vec(), name.clone())),
    }
}

fn arrows(files: &[File]) -> Arrows {
    let modules: BTreeSet<Vec<String>> = files.iter().map(|f| f.module.clone()).collect();
    let paths: BTreeMap<&[String], String> = files
        .iter()
        .map(|f| (f.module.as_slice(), f.path.display().to_string()))
        .collect();
    let children = |module: &[String]| -> BTreeSet<String> {
        let own = |m: &&Vec<String>| m.len() == module.len() + 1 && m.starts_with(module);
        modules
            .iter()
            .filter(own)
            .filter_map(|m| m.last().cloned())
            .collect()
    };
    let read: Vec<_> = files
        .iter()
        .map(|f| imports(f, &children(&f.module)))
        .collect();
    let passed_on: PassedOn = files
        .iter()
        .zip(&read)
        .map(|(f, r)| (f.module.clone(), r.1.clone()))
        .collect();
    let mut arrows = Arrows::new();
    for (file, (all, own_passed_on)) in files.iter().zip(&read) {
        for path in all {
            // What a module only passes on is not an import of its own.
            if own_passed_on.values().any(|p| p == path) {
                continue;
            }
            let Some((module, name)) = resolve(path, &modules, &passed_on, 0) else {
                continue;
            };
            if module != file.module && !module.is_empty() {
                let to = paths[module.as_slice()].clone();
                arrows
                    .entry((file.path.display().to_string(), to))
                    .or_default()
                    .insert(name);
            }
        }
    }
    arrows
}

/// Sets of files that reach each other (strongly connected components of more than one file).
fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        next.entry(from).or_default().insert(to);
    }
    let reach = |start: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(at) = open.pop() {
            for to in next.get(at).into_iter().flatten() {
                if seen.insert(to.to_string()) {
                    open.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = next.keys().map(|f| (*f, reach(f))).collect();
    let (mut circles, mut done) = (Vec::new(), BTreeSet::new());
    for (file, seen) in &reached {
        if seen.contains(*file) && !done.contains(*file) {
            let circle: Vec<String> = seen
                .iter()
                .filter(|o| reached.get(o.as_str()).is_some_and(|s| s.contains(*file)))
                .cloned()
                .collect();
            done.extend(
                circle
                    .iter()
                    .map(|f| reached.get_key_value(f.as_str()).unwrap().0)
                    .copied(),
            );
            circles.push(circle);
        }
    }
    circles
}

fn room(path: &str) -> &str {
    path.split('/')
        .next()
        .unwrap_or(path)
        .trim_end_matches(".rs")
}

fn upward(arrows: &Arrows) -> Vec<String> {
    let rank = |path: &str| ROOMS.iter().position(|r| *r == room(path));
    let points_up = |from: &str, to: &str| match (rank(from), rank(to)) {
        (Some(from), Some(to)) => to < from,
        _ => room(from) != room(to), // a room without a place in the list
    };
    let text = |((from, to), names): (&(String, String), &BTreeSet<String>)| {
        format!(
            "{from} -> {to}: {}",
            names.iter().cloned().collect::<Vec<_>>().join(", ")
        )
    };
    arrows
        .iter()
        .filter(|((from, to), _)| points_up(from, to))
        .map(text)
        .collect()
}

fn long_functions(files: &[File]) -> Vec<(usize, String)> {
    let mut long = Vec::new();
    for file in files {
        for (at, line) in file.lines.iter().enumerate() {
            let code = line.trim_start();
            let is_function = !code.starts_with("//")
                && (code.starts_with("fn ")
                    || code.contains(" fn ")
                        && code.split(" fn ").next().is_some_and(|q| {
                            q.split_whitespace().all(|w| {
                                w.starts_with("pub")
                                    || w.starts_with("in")
                                    || matches!(w, "const" | "unsafe" | "extern" | "\"C\"")
                            })
                        }));
            if is_function {
                let length = end_of_item(&file.lines, at) - at + 1;
                if length > 60 {
                    let name: String = code
                        .split("fn ")
                        .nth(1)
                        .unwrap_or("")
                        .chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect();
                    long.push((length, format!("{} {name}", file.path.display())));
                }
            }
        }
    }
    long.sort_by(|a, b| b.cmp(a));
    long
}

/// Lines that `is_one` finds, with their place. The line before is given as well: rustfmt breaks chains.
fn find(files: &[File], is_one: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let mut before = "";
        for line in &file.lines {
            if is_one(before.trim(), line.trim()) {
                found.push(format!("{}: {}", file.path.display(), line.trim()));
            }
            before = line;
        }
    }
    found
}

fn is_public(line: &str) -> bool {
    let kinds = [
        "fn ", "struct ", "enum ", "const ", "static ", "trait ", "type ", "mod ", "use ",
        "unsafe ",
    ];
    line.strip_prefix("pub ")
        .is_some_and(|rest| kinds.iter().any(|k| rest.starts_with(k)))
}

fn is_match_on_bool(line: &str) -> bool {
    let arm = line
        .strip_prefix("true")
        .or_else(|| line.strip_prefix("false"));
    arm.is_some_and(|rest| {
        rest.starts_with(" =>") || (rest.starts_with(" if ") && rest.contains(" =>"))
    })
}

fn searches_text(before: &str, line: &str) -> bool {
    let searches = [
        ".contains(",
        ".starts_with(",
        ".ends_with(",
        ".replace(",
        ".strip_prefix(",
        ".strip_suffix(",
        ".split_once(",
    ];
    let texts = [
        "e.to_string()",
        "error.to_string()",
        "err.to_string()",
        "cause.to_string()",
        "e.text()",
        "error.text()",
    ];
    let in_line = texts
        .iter()
        .any(|t| searches.iter().any(|s| line.contains(&format!("{t}{s}"))));
    in_line
        || (texts.iter().any(|t| before.ends_with(t))
            && searches.iter().any(|s| line.starts_with(s)))
}

/// `(D6)`, `(S4, 8.17)`, `DESIGN 3` and the like: numbers of sections of documents that are not in the repository.
fn cites_paper(line: &str) -> bool {
    let Some((_, comment)) = line.split_once("//") else {
        return false;
    };
    let names = [
        "DESIGN",
        "HOUSE",
        "agent-api-v",
        "tool-compatibility",
        "platform-notes",
        "test-rig",
        "classic-servers",
    ];
    let is_number = |word: &str| {
        let digits = word.trim_start_matches(['D', 'S', 'P']);
        let letter = digits.len() < word.len();
        let all = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        all && (letter || (digits.contains('.') && digits.len() <= 6))
    };
    let bracketed = comment
        .split('(')
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .any(|(inside, _)| inside.split(", ").all(is_number));
    names.iter().any(|n| comment.contains(n)) || bracketed
}

/// Counts the source of the checkout in `root`.
pub fn count(root: &Path) -> Numbers {
    let src = root.join("src");
    let mut found = Vec::new();
    walk(&src, &mut found);
    found.sort();
    let files: Vec<File> = found.iter().map(|p| read(&src, p)).collect();
    let lines_of_tests = files.iter().map(|f| f.lines_of_tests).sum();
    let files: Vec<File> = files.into_iter().filter(|f| !f.lines.is_empty()).collect();
    let arrows = arrows(&files);
    Numbers {
        files: files.len(),
        lines: files.iter().map(|f| f.lines.len()).sum(),
        lines_of_tests,
        circles: circles(&arrows),
        upward: upward(&arrows),
        public: find(&files, |_, l| is_public(l)).len(),
        long: long_functions(&files),
        match_on_bool: find(&files, |_, l| is_match_on_bool(l)),
        text_searches: find(&files, searches_text),
        cited_papers: find(&files, |_, l| cites_paper(l)),
        arrows,
    }
}

/// The arrows that make a circle.
pub fn ties(circle: &[String], arrows: &Arrows) -> Vec<String> {
    let inside = |arrow: &(String, String)| circle.contains(&arrow.0) && circle.contains(&arrow.1);
    let text = |((from, to), names): (&(String, String), &BTreeSet<String>)| {
        format!(
            "{from} -> {to}: {}",
            names.iter().cloned().collect::<Vec<_>>().join(", ")
        )
    };
    let title = format!("circle of {} files", circle.len());
    std::iter::once(title)
        .chain(arrows.iter().filter(|(arrow, _)| inside(arrow)).map(text))
        .collect()
}

fn main() {
    let root = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let detailed = std::env::args().nth(2).is_some_and(|a| a == "-v");
    let n = count(Path::new(&root));
    let over = n.long.iter().filter(|f| f.0 > 80).count();
    println!("files with code outside tests   {}", n.files);
    println!("lines outside tests             {}", n.lines);
    println!("lines of tests in src           {}", n.lines_of_tests);
    println!(
        "import circles                  {} (files in them: {})",
        n.circles.len(),
        n.circles.iter().map(Vec::len).sum::<usize>()
    );
    println!("upward arrows                   {}", n.upward.len());
    println!("pub items                       {}", n.public);
    println!(
        "functions over 60 lines         {} (over 80: {over})",
        n.long.len()
    );
    println!("match on a bool                 {}", n.match_on_bool.len());
    println!("text searches in own errors     {}", n.text_searches.len());
    println!("comments that cite papers       {}", n.cited_papers.len());
    if detailed {
        let long: Vec<String> = n.long.iter().map(|(l, f)| format!("{l} {f}")).collect();
        let circles = n
            .circles
            .iter()
            .flat_map(|circle| ties(circle, &n.arrows))
            .collect();
        let parts = [
            ("circles", circles),
            ("upward", n.upward),
            ("long", long),
            ("match on a bool", n.match_on_bool),
            ("text searches", n.text_searches),
            ("papers", n.cited_papers),
        ];
        for (title, rows) in parts {
            println!("\n{title}:");
            for row in rows {
                println!("  {row}");
            }
        }
    }
}
