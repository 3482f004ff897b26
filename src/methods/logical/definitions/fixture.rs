//! Catalogues for the unit tests.

use crate::mysql::Server;
use crate::mysql::catalogue::{Catalogue, Kind, Object};
use std::collections::BTreeMap;

pub(super) fn object(kind: Kind, name: &str) -> Object {
    Object {
        kind,
        schema: "s".into(),
        name: name.into(),
    }
}

/// An object: its kind, its name, and its properties with their values.
pub(super) type Definition<'a> = (Kind, &'a str, &'a [(&'a str, &'a str)]);

pub(super) fn of(version: &str, objects: &[Definition]) -> Catalogue {
    let definition = |of: &[(&str, &str)]| {
        let pair = |(k, v): &(&str, &str)| (k.to_string(), v.to_string());
        of.iter().map(pair).collect::<BTreeMap<_, _>>()
    };
    Catalogue {
        server: Server::parse(version, "").unwrap(),
        objects: objects
            .iter()
            .map(|(kind, name, of)| (object(*kind, name), definition(of)))
            .collect(),
    }
}
