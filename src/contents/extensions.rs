//! Plugins and components of a server, and the accounts, tables and routines that use them: a load registers them, but does not
//! install them.

use super::create_table;
use super::finding::first_of;
use crate::error::Result;
use crate::mysql::catalogue::{Catalogue, Definition, Kind};
use crate::mysql::{Flavour, Server, Version, grants, query};
use crate::sys::Inserted;
use mysql::Conn;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Functions of MySQL's components, for servers without the table that lists them (`performance_schema = OFF`).
const OF_COMPONENTS: [(&str, &[&str]); 2] = [
    (
        "component_query_attributes",
        &["mysql_query_attribute_string"],
    ),
    ("component_classic_hashing", &["md5", "sha", "sha1"]),
];

/// What uses something, by its name in lower case.
type Users = BTreeMap<String, BTreeSet<String>>;

#[derive(Debug, Clone, Default)]
pub(super) struct Extensions {
    /// Active plugins by name in lower case; `None` for those that are built in.
    libraries: BTreeMap<String, Option<String>>,
    /// The URNs of `mysql.component`, in whose order they are installed.
    components: Vec<String>,
    /// Functions that components and plugins have registered; empty with `performance_schema = OFF` too.
    functions: BTreeSet<String>,
}

impl Extensions {
    pub(super) fn read(conn: &mut Conn, server: Server) -> Result<Self> {
        let plugins: Vec<(String, Option<String>)> = query::rows(
            conn,
            "SELECT PLUGIN_NAME, PLUGIN_LIBRARY FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE'",
        )?;
        let plugins = plugins
            .into_iter()
            .map(|(n, l)| (n.to_ascii_lowercase(), l));
        let mut out = Self {
            libraries: plugins.inserted(),
            ..Self::default()
        };
        if has_components(server) {
            out.components = grants::rows(
                conn,
                "SELECT component_urn FROM mysql.component ORDER BY component_id",
            )?;
            if server.version >= Version(8, 0, 14) {
                let functions = grants::rows(
                    conn,
                    "SELECT LOWER(UDF_NAME) FROM performance_schema.user_defined_functions WHERE UDF_LIBRARY IS NULL",
                )?;
                out.functions = functions.into_iter().inserted();
            }
        }
        Ok(out)
    }
}

/// Whether a server has components and what came with them in MySQL 8.0: histograms and resource groups.
pub(super) fn has_components(server: Server) -> bool {
    server.flavour == Flavour::MySql && server.version >= Version(8, 0, 0)
}

/// The extensions of a source, and what uses them there.
#[derive(Debug, Clone, Default)]
pub(super) struct UsedExtensions {
    installed: Extensions,
    plugins: Users,
    functions: Users,
    /// Names and libraries of `mysql.plugin`.
    registered: Vec<(String, String)>,
}

impl UsedExtensions {
    pub(super) fn read(conn: &mut Conn, server: Server, catalogue: &Catalogue) -> Result<Self> {
        let installed = Extensions::read(conn, server)?;
        let mut functions = installed.functions.clone();
        for (component, of_it) in OF_COMPONENTS {
            if installed
                .components
                .iter()
                .any(|urn| urn.ends_with(component))
            {
                functions.extend(of_it.iter().map(|f| (*f).to_string()));
            }
        }
        Ok(Self {
            installed,
            plugins: users_of_plugins(catalogue),
            functions: users_of_functions(catalogue, &functions),
            registered: query::rows(conn, "SELECT name, dl FROM mysql.plugin ORDER BY name")?,
        })
    }

    /// Plugins that accounts and tables use, that the source has and the target lacks: who uses them and how to get them.
    pub(super) fn missing_plugins(&self, target: &Extensions, flavour: Flavour) -> Vec<String> {
        let built_in = "it is built into the source, and the target has none or a disabled one";
        let missing = self
            .plugins
            .iter()
            .filter(|(name, _)| !target.libraries.contains_key(*name));
        let text = |(name, users): (&String, &BTreeSet<String>)| {
            // Without it on the source they cannot be used there either.
            let library = self.installed.libraries.get(name)?.as_ref();
            let remedy = library.map_or(built_in.into(), |library| install(flavour, name, library));
            Some(format!("{name} ({}; {remedy})", first_of(2, users)))
        };
        missing.filter_map(text).collect()
    }

    /// Functions of components that objects use and the target lacks.
    pub(super) fn missing_functions(&self, target: &Extensions) -> Vec<String> {
        let missing = self.missing_components(target);
        let is_missing = |function: &String| {
            if !target.functions.is_empty() {
                return !target.functions.contains(function);
            }
            let lacks = |component: &str| missing.iter().any(|urn| urn.ends_with(component));
            let of = |all: &[&str]| all.contains(&function.as_str());
            OF_COMPONENTS
                .iter()
                .any(|(component, all)| of(all) && lacks(component))
        };
        let found = self.functions.iter().filter(|(f, _)| is_missing(f));
        let mut out: Vec<String> = found
            .map(|(function, users)| format!("{function} ({})", first_of(2, users)))
            .collect();
        if !out.is_empty() && !missing.is_empty() {
            let urns: Vec<String> = missing.iter().map(|urn| format!("'{urn}'")).collect();
            out.push(format!("(INSTALL COMPONENT {})", urns.join(", ")));
        }
        out
    }

    fn missing_components(&self, target: &Extensions) -> Vec<String> {
        let all = self.installed.components.iter();
        all.filter(|urn| !target.components.contains(urn))
            .cloned()
            .collect()
    }

    /// Plugins and components that a load registers on the target, where they are not active.
    pub(super) fn inactive(&self, target: &Extensions, flavour: Flavour) -> Vec<String> {
        let is_missing = |(name, _): &&(String, String)| {
            !target.libraries.contains_key(&name.to_ascii_lowercase())
        };
        let plugins = self.registered.iter().filter(is_missing);
        let plugins =
            plugins.map(|(name, library)| format!("{name} ({})", install(flavour, name, library)));
        let components = self.missing_components(target).into_iter();
        let components = components.map(|urn| format!("{urn} (INSTALL COMPONENT '{urn}')"));
        plugins.chain(components).collect()
    }
}

fn install(flavour: Flavour, name: &str, library: &str) -> String {
    match flavour {
        Flavour::MariaDb => format!("INSTALL SONAME '{}'", library.trim_end_matches(".so")),
        Flavour::MySql => format!("INSTALL PLUGIN {name} SONAME '{library}'"),
    }
}

/// The values of `plugin` in a JSON text.
fn plugins_of_json(text: &str) -> Vec<String> {
    fn walk(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                map.values().for_each(|v| walk(v, out));
                let plugin = map.get("plugin").and_then(Value::as_str);
                out.extend(plugin.map(str::to_string));
            }
            Value::Array(all) => all.iter().for_each(|v| walk(v, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk(
        &serde_json::from_slice(text.as_bytes()).unwrap_or_default(),
        &mut out,
    );
    out
}

/// The authentication plugins of an account, by its rows in the tables with the rights.
fn plugins_of_account(definition: &Definition) -> Vec<String> {
    let mut out = Vec::new();
    for table in ["mysql.user", "mysql.global_priv"] {
        let rights = definition.get(table).map_or("", String::as_str);
        for (column, value) in rights.lines().filter_map(|l| l.split_once('\t')) {
            match column.to_ascii_lowercase().as_str() {
                "plugin" => out.push(value.to_string()),
                "priv" | "user_attributes" => out.extend(plugins_of_json(value)),
                _ => {}
            }
        }
    }
    out.retain(|p| !p.is_empty());
    out
}

fn users_of_plugins(catalogue: &Catalogue) -> Users {
    let mut out = Users::new();
    for (object, definition) in &catalogue.objects {
        let names = match object.kind {
            Kind::Account => plugins_of_account(definition),
            Kind::Table => create_table::parsers(definition.get("Create Table").map_or("", |c| c)),
            _ => Vec::new(),
        };
        for name in names {
            let users = out.entry(name.to_ascii_lowercase()).or_default();
            users.insert(object.to_string());
        }
    }
    out
}

/// Whether SQL calls a function of this name (in lower case).
fn calls(sql: &str, function: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    sql.match_indices(function).any(|(at, _)| {
        let before = sql[..at].chars().next_back();
        let after = sql[at + function.len()..].trim_start_matches('`');
        !before.is_some_and(word) && after.trim_start().starts_with('(')
    })
}

fn users_of_functions(catalogue: &Catalogue, functions: &BTreeSet<String>) -> Users {
    let mut out = Users::new();
    let all = catalogue.objects.iter();
    for (object, definition) in all.filter(|(o, _)| o.kind != Kind::Account) {
        for function in functions {
            if definition.values().any(|text| calls(text, function)) {
                let users = out.entry(function.clone()).or_default();
                users.insert(object.to_string());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_of_accounts() {
        let account = |table: &str, row: &str| {
            plugins_of_account(&Definition::from([(table.to_string(), row.to_string())]))
        };
        assert_eq!(
            account(
                "mysql.global_priv",
                "Priv\t{\"access\":0,\"plugin\":\"unix_socket\",\"auth_or\":[{\"plugin\":\"ed25519\",\"authentication_string\":\"x\"},{}]}"
            ),
            ["ed25519", "unix_socket"]
        );
        assert_eq!(
            account(
                "mysql.user",
                "plugin\tmysql_no_login\nauthentication_string\tplugin"
            ),
            ["mysql_no_login"]
        );
    }

    #[test]
    fn calls_of_functions_are_found() {
        for yes in ["select F(1)", "select `f` (1)", "x+f  ()"] {
            assert!(calls(yes, "f"), "{yes}");
        }
        for no in ["select of(1)", "select f2(1)", "select f", "_f(1)"] {
            assert!(!calls(no, "f"), "{no}");
        }
    }
}
