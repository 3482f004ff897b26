//! serde over a TOML document. Unlike the `toml` crate's own deserializer it finds every fault of a file: after each one the document is
//! read again without the key at fault. Names are matched without regard to case, a fault has the line, the key and the value, and the
//! field names that serde passes are kept, to find unknown keys and the nearest known ones.
//!
//! A field named "" is a struct that takes its keys from the section of its parent. (serde's `flatten` would read the values without
//! their types.)

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use toml::de::{DeTable, DeValue};

use super::nearest::{self, Known};

/// Keys that earlier versions had: accepted whatever their value, and named in a warning with what is true now.
const RETIRED: [(&str, &str); 1] = [(
    "mysqldump.load-threads",
    "a dump is loaded by one client; to load with several threads, use the method Mydumper",
)];

/// A key whose unknown values only cause a warning, as in the Go agent: a file that worked must go on working.
const TOLERATED: &str = "logging.level";

/// What serde calls the types, and what the messages call them.
const WORDS: [(&str, &str); 3] = [
    ("a string", "a string in quotes"),
    ("a boolean", "true or false, without quotes"),
    ("a sequence", "a list of strings such as [\"a\", \"b\"]"),
];

/// What was found in a document.
#[derive(Default)]
pub(super) struct Findings {
    /// Offset of the key, and text.
    pub(super) faults: Vec<(Option<usize>, String)>,
    /// The same of what is ignored.
    pub(super) warnings: Vec<(Option<usize>, String)>,
    /// `section.key` of the faults: their values in the result are the defaults.
    pub(super) faulty: BTreeSet<String>,
    /// `section.key` of the keys of the document, in the spelling of the field, to their offsets.
    pub(super) given: BTreeMap<String, usize>,
}

/// Reads a document. Where a value has a fault the default is used.
pub(super) fn read<T: DeserializeOwned + Default>(document: DeTable<'_>) -> (T, Findings) {
    let root = DeValue::Table(document);
    let mut found = Findings::default();
    let mut left_out = BTreeSet::new();
    loop {
        let pass = Pass {
            left_out: &left_out,
            known: RefCell::default(),
            given: RefCell::default(),
        };
        let node = Node {
            pass: &pass,
            name: String::new(),
            path: String::new(),
            subject: String::new(),
            at: usize::MAX,
            value: Some(&root),
        };
        let result = T::deserialize(&node);
        let (known, given) = (pass.known.into_inner(), pass.given.into_inner());
        let fault = match result {
            Ok(read) => {
                found.given = given;
                unknown(&root, "", &known, &mut found.warnings);
                return (read, found);
            }
            Err(fault) => fault,
        };
        let text = fault.to_string();
        if fault.path == TOLERATED && !fault.wrong_type {
            found.warnings.push((Some(fault.at), text));
        } else {
            found.faults.push((Some(fault.at), text));
            found.faulty.insert(fault.path);
        }
        if !left_out.insert(fault.at) {
            return (T::default(), found);
        }
    }
}

/// Warnings about all keys and sections below `path` that no field has.
fn unknown(node: &DeValue, path: &str, known: &Known, warnings: &mut Vec<(Option<usize>, String)>) {
    let Some(table) = node.as_table() else {
        return;
    };
    let fields = known.get(path);
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let field = fields.map_or(Some(name), |fields| named(fields, path, name));
        let child = join(path, field.unwrap_or(name));
        if let Some((_, now)) = RETIRED.iter().find(|(k, _)| k.eq_ignore_ascii_case(&child)) {
            warnings.push((Some(key.span().start), format!("{child} is ignored: {now}")));
        } else if field.is_none() {
            let (what, hint) = match (path, value.get_ref().is_table()) {
                ("", true) => {
                    let sections = fields.into_iter().flatten().copied();
                    (
                        format!("unknown section [{name}]"),
                        nearest::similar(name, sections),
                    )
                }
                ("", false) => (
                    format!("{name}, above the first section,"),
                    nearest::elsewhere(path, name, known),
                ),
                _ => (
                    format!("unknown key {child}"),
                    nearest::hint(path, name, known),
                ),
            };
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            warnings.push((Some(key.span().start), format!("{what} is ignored{hint}")));
        } else if path.is_empty() || known.contains_key(&child) {
            unknown(value.get_ref(), &child, known, warnings);
        }
    }
}

/// The field that a key means. In the names of sections `_` and `-` are the same: `[clone_plugin]` is also written `[clone-plugin]`.
fn named(fields: &[&'static str], path: &str, key: &str) -> Option<&'static str> {
    let key = if path.is_empty() {
        key.replace('-', "_")
    } else {
        key.into()
    };
    let same = |field: &str| match path {
        "" => field.replace('-', "_").eq_ignore_ascii_case(&key),
        _ => field.eq_ignore_ascii_case(&key),
    };
    fields.iter().copied().find(|f| !f.is_empty() && same(f))
}

/// `section.key`
fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", only) | (only, "") => only.into(),
        _ => format!("{path}.{key}"),
    }
}

/// One reading of the document.
struct Pass<'a> {
    left_out: &'a BTreeSet<usize>,
    known: RefCell<Known>,
    given: RefCell<BTreeMap<String, usize>>,
}

/// Why a value cannot be used. Placed by the table that holds it.
#[derive(Debug, Default)]
pub(super) struct Fault {
    at: usize,
    path: String,
    /// `section.key = value` in the spelling of the file; empty until the fault is placed.
    subject: String,
    why: String,
    wrong_type: bool,
    /// The value must not be shown.
    hidden: bool,
    /// The key itself is wrong, not its value.
    of_key: bool,
}

impl Fault {
    fn of_key(why: String) -> Self {
        Self {
            why,
            of_key: true,
            ..Self::default()
        }
    }

    /// With its place, if it has none yet.
    fn at(mut self, node: &Node) -> Self {
        if !self.subject.is_empty() {
            return self;
        }
        (self.at, self.path, self.subject) = (node.at, node.path.clone(), node.subject.clone());
        let Some(value) = node.value else {
            return self;
        };
        if self.wrong_type {
            self.why = format!("expected {}, found {}", self.why, found(value));
        }
        if self.hidden {
            self.why += " (value not shown)";
        } else if !self.of_key {
            self.subject += &format!(" = {}", show(value));
        }
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.why)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(text: T) -> Self {
        Self {
            why: text.to_string(),
            ..Self::default()
        }
    }

    fn invalid_type(_: Unexpected, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let ours = WORDS.iter().find(|(serde, _)| *serde == expected);
        Self {
            why: ours.map_or(expected.clone(), |(_, ours)| ours.to_string()),
            wrong_type: true,
            ..Self::default()
        }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::of_key(format!(
            "this is set already, in another spelling: keep one, best as {field}"
        ))
    }
}

/// A table or a value.
struct Node<'a> {
    pass: &'a Pass<'a>,
    /// The field's name, and that behind its section's.
    name: String,
    path: String,
    /// The same in the spelling of the file.
    subject: String,
    at: usize,
    /// `None`: a section that is not there.
    value: Option<&'a DeValue<'a>>,
}

impl<'a> Node<'a> {
    fn child(&self, name: &str, at: usize, value: Option<&'a DeValue<'a>>) -> Self {
        Self {
            pass: self.pass,
            name: name.into(),
            path: join(&self.path, name),
            subject: join(&self.path, name),
            at,
            value,
        }
    }

    /// The entries of a section in the order of the file.
    fn entries(&self) -> Result<Vec<Self>, Fault> {
        let table = match self.value {
            None => return Ok(Vec::new()),
            Some(DeValue::Table(table)) => table,
            Some(other) => {
                let (path, found) = (&self.path, found(other));
                let why = format!("expected a section [{path}], found {found}");
                return Err(Fault::of_key(why));
            }
        };
        let entries = table
            .iter()
            .map(|(key, value)| self.child(key.get_ref(), key.span().start, Some(value.get_ref())));
        let mut entries: Vec<_> = entries.collect();
        entries.retain(|e| !self.pass.left_out.contains(&e.at));
        entries.sort_by_key(|e| e.at);
        Ok(entries)
    }
}

/// Hands the entries of a table to serde.
fn visit<'de, V: Visitor<'de>>(entries: &[Node], visitor: V) -> Result<V::Value, Fault> {
    let current = Cell::new(None);
    let pairs = entries.iter().map(|entry| {
        current.set(Some(entry));
        if entry.at != usize::MAX {
            let mut given = entry.pass.given.borrow_mut();
            given.insert(entry.path.clone(), entry.at);
        }
        (entry.name.as_str(), entry)
    });
    let read = visitor.visit_map(MapDeserializer::new(pairs));
    read.map_err(|fault: Fault| match current.get() {
        Some(entry) => fault.at(entry),
        None => fault,
    })
}

impl<'de> IntoDeserializer<'de, Fault> for &Node<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for &Node<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Some(DeValue::String(text)) => visitor.visit_str(text),
            Some(DeValue::Integer(number)) => {
                let parsed = i128::from_str_radix(number.as_str(), number.radix());
                visitor.visit_i128(parsed.unwrap_or(i128::MAX))
            }
            Some(DeValue::Boolean(flag)) => visitor.visit_bool(*flag),
            Some(DeValue::Float(number)) => {
                visitor.visit_f64(number.as_str().parse().unwrap_or(f64::NAN))
            }
            Some(DeValue::Array(list)) => {
                let items: Option<Vec<&str>> = list.iter().map(|i| i.get_ref().as_str()).collect();
                match items {
                    Some(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
                    None => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
                }
            }
            _ => Err(de::Error::invalid_type(Unexpected::Map, &visitor)),
        }
    }

    /// One of several words, whose case does not matter.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let given = self.value.and_then(DeValue::as_str).unwrap_or_default();
        match words.iter().find(|word| word.eq_ignore_ascii_case(given)) {
            Some(word) => visitor.visit_enum((*word).into_deserializer()),
            None => {
                let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
                Err(de::Error::custom(format!(
                    "expected one of {}",
                    words.join(", ")
                )))
            }
        }
    }

    /// Only `Secret` is one.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self).map_err(|fault| Fault {
            hidden: true,
            ..fault
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let mut entries = self.entries()?;
        entries.retain_mut(|entry| {
            let field = named(fields, &self.path, &entry.name);
            if let Some(field) = field {
                (entry.name, entry.path) = (field.into(), join(&self.path, field));
            }
            field.is_some()
        });
        for field in fields {
            if field.is_empty() {
                entries.push(self.child(field, usize::MAX, self.value));
            } else if self.path.is_empty() && !entries.iter().any(|e| e.name == *field) {
                // A section that is not there is read as empty, so that its names are known.
                entries.push(self.child(field, usize::MAX, None));
            }
        }
        let names = fields.iter().filter(|f| !f.is_empty());
        let mut known = self.pass.known.borrow_mut();
        known.entry(self.path.clone()).or_default().extend(names);
        drop(known);
        visit(&entries, visitor)
    }

    /// Its keys are names that the user chooses; they are kept as they are.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visit(&self.entries()?, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct identifier ignored_any
    }
}

/// A value as the file has it, as far as that is short.
fn show(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "[...]".into(),
        DeValue::Table(_) => "{...}".into(),
    }
}

/// The kind of a value, for messages.
fn found(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false without quotes",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
