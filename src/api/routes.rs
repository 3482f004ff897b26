//! Every endpoint, once. To add one, add a line here and the function that it calls.

use super::auth::{self, has_credentials};
use super::call::{Call, signals};
use super::volumes::SnapshotHosts;
use super::{Api, path, reply};
use crate::config::Protocol;
use crate::error::Result;
use crate::http::{Access, Plan, Request, Response};
use crate::protocol::wire::Wire;
use std::sync::Arc;

/// Also served at `status-endpoint`.
const STATUS: &str = "/api/status";

/// Who may call an endpoint. [`Class::Anyone`] and [`Class::Client`] need no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Also clients without the certificate that `use-mutual-tls` requires, unless `status-ou-verify` is set.
    Anyone,
    /// Clients that may connect at all.
    Client,
    /// Clients with the token.
    Token,
}

type Handler = fn(&Api, &Call) -> Result<Response>;

struct Route {
    method: &'static str,
    /// Segments that begin with `:` are parameters.
    pattern: &'static str,
    class: Class,
    /// It may use the connections that are kept for status, health and information calls.
    reserved: bool,
    handler: Handler,
    /// It changes this host, by the classic protocol: a wrong token is reported to orchestrator as any other error.
    changes: bool,
    /// So it does by protocol v2, whose orchestrators expect status 500 for a wrong token.
    of_both: bool,
    /// Its body may have any length, and is stored in `backup-dir` until the call has its answer.
    spool: bool,
}

use Class::{Anyone, Client, Token};

#[rustfmt::skip]
static ROUTES: &[Route] = &[
    information(STATUS, Anyone, |api, _| Ok(api.status())),
    information("/api/get-agent-info", Client, |api, _| Ok(api.agent_info())),
    information("/api/get-agent-data", Token, |api, _| Ok(api.agent_data())),
    information("/api/active-seed", Token, |api, _| Ok(api.active_seed())),
    information("/api/seed-stage-state/:id/:stage", Token, |api, c| api.stage_state(c.at(0), c.at(1))),
    information("/api/mysql-error-log-tail", Token, |api, c| api.error_log_tail(c)),
    change_of_both("/api/mysql-start", |api, c| api.start_mysql(c)),
    change_of_both("/api/mysql-stop", |api, c| api.stop_mysql(c)),
    change_of_both("/api/custom-commands/:name", |api, c| api.custom_command(c)),
    get("/api/post-seed-cmd/:id", Token, |api, c| api.post_seed(c.at(0))),
    get("/api/prepare/:id/:method/:side", Token, |api, c| api.prepare(c.at(0), c.at(1), c.at(2))),
    get("/api/backup/:id/:method/:host/:port", Token, |api, c| api.backup(c.at(0), c.at(1), c.at(2), c.at(3))),
    get("/api/restore/:id/:method", Token, |api, c| api.restore(c.at(0), c.at(1))),
    get("/api/cleanup/:id/:method/:side", Token, |api, c| api.cleanup(c.at(0), c.at(1), c.at(2))),
    get("/api/get-metadata/:id/:method", Token, |api, c| api.metadata(c.at(0), c.at(1))),
    get("/api/abort-seed-stage/:id/:stage", Token, |api, c| api.abort(c.at(0), c.at(1))),
    get("/api/hold-applier/:id", Token, |api, c| api.hold_applier(c.at(0))),
    get("/api/release-applier/:id", Token, |api, c| api.release_applier(c.at(0))),
    information("/api/hostname", Client, |api, _| Ok(api.classic_hostname())),
    information("/api/lvs", Token, |api, _| api.volumes("")),
    information("/api/lvs/:pattern", Token, |api, c| api.volumes(c.at(0))),
    information("/api/lvs-snapshots", Token, |api, _| Ok(api.lvs_snapshots())),
    information("/api/lv", Token, |api, c| api.volume(&c.parameter("lv"))),
    information("/api/lv/:lv", Token, |api, c| api.volume(c.at(0))),
    information("/api/available-snapshots-local", Token, |api, _| api.snapshot_hosts(SnapshotHosts::Local)),
    information("/api/available-snapshots", Token, |api, _| api.snapshot_hosts(SnapshotHosts::All)),
    information("/api/du", Token, |api, c| api.disk_usage(&c.parameter("path"))),
    information("/api/mysql-du", Token, |api, _| api.datadir_used()),
    information("/api/mysql-datadir-available-space", Token, |api, _| api.datadir_free()),
    information("/api/mysql-port", Token, |api, _| api.mysql_port()),
    information("/api/mysql-status", Token, |api, _| Ok(api.mysql_status())),
    information("/api/mount", Token, |api, _| api.mount()),
    change("/api/mountlv", |api, c| api.mount_snapshot(c)),
    change("/api/delete-mysql-datadir", |api, c| api.delete_datadir(c)),
    change("/api/receive-mysql-seed-data/:id", |api, c| api.receive_seed(c.at(0))),
    change("/api/send-mysql-seed-data/:host/:id", |api, c| api.send_seed(c.at(0), c.at(1))),
    information("/api/seed-command-completed/:id", Token, |api, c| Ok(api.seed_completed(c.at(0)))),
    information("/api/seed-command-succeeded/:id", Token, |api, c| Ok(api.seed_succeeded(c))),
    change("/api/abort-seed/:id", |api, c| api.abort_seed(c.at(0))),
    change("/api/post-copy", |api, c| api.post_copy(c)),
    change("/api/removelv", |api, c| api.remove_volume(c)),
    change("/api/umount", |api, c| api.unmount_snapshot(c)),
    change("/api/create-snapshot", |api, c| api.create_snapshot(c)),
    get("/api/mysql-relay-log-index-file", Token, |api, _| api.relay_log_index()),
    get("/api/mysql-relay-log-files", Token, |api, _| api.relay_log_files()),
    get("/api/mysql-relay-log-end-coordinates", Token, |api, _| api.relay_log_end()),
    get("/api/mysql-binlog-contents", Token, |api, c| api.binlog_text(c)),
    get("/api/mysql-binlog-binary-contents", Token, |api, c| api.binlog_bytes(c)),
    get("/api/mysql-relaylog-contents-tail/:log/:start", Token, |api, c| api.relay_log_tail(c.at(0), c.at(1))),
    Route { method: "POST", spool: true, ..change("/api/apply-relaylog-contents", |api, c| api.apply_relay_log(c)) },
];

const fn get(pattern: &'static str, class: Class, handler: Handler) -> Route {
    Route {
        method: "GET",
        pattern,
        class,
        reserved: false,
        spool: false,
        handler,
        changes: false,
        of_both: false,
    }
}

/// Of what changes this host, by the classic protocol only.
const fn change(pattern: &'static str, handler: Handler) -> Route {
    Route {
        changes: true,
        ..get(pattern, Token, handler)
    }
}

const fn change_of_both(pattern: &'static str, handler: Handler) -> Route {
    Route {
        of_both: true,
        ..change(pattern, handler)
    }
}

const fn information(pattern: &'static str, class: Class, handler: Handler) -> Route {
    Route {
        reserved: true,
        ..get(pattern, class, handler)
    }
}

impl Route {
    /// The parameters, if the decoded `path` is this route's; one trailing slash is allowed.
    fn parameters(&self, path: &str, status: &str) -> Option<Vec<String>> {
        if self.pattern == STATUS && (path == status || path.strip_suffix('/') == Some(status)) {
            return Some(Vec::new());
        }
        let mut segments = path.strip_suffix('/').unwrap_or(path).split('/');
        let mut found = Vec::new();
        for expected in self.pattern.split('/') {
            let segment = segments.next()?;
            if expected.starts_with(':') {
                found.push(segment.to_string());
            } else if segment != expected {
                return None;
            }
        }
        segments.next().is_none().then_some(found)
    }
}

impl Api {
    /// What is done with a request, by its head. Authentication comes before the body is read.
    pub(crate) fn plan(self: &Arc<Self>, request: &Request) -> Plan {
        match self.route(request) {
            Err(response) => Plan::new(|_| response),
            Ok((route, parameters, wire)) => {
                let api = Arc::clone(self);
                let signal_errors = self.config.classic.signal_errors;
                let is_signalled = wire == Wire::Classic && signals(signal_errors, request);
                let answer = move |request| {
                    let call = Call {
                        parameters,
                        request,
                        wire,
                        signal_errors,
                    };
                    (route.handler)(&api, &call).unwrap_or_else(|e| reply::failure(&call, &e))
                };
                Plan {
                    reserved: route.reserved,
                    spool: route.spool.then_some(u64::MAX),
                    busy: is_signalled.then_some(reply::BUSY),
                    answer: Box::new(answer),
                }
            }
        }
    }

    /// The endpoint and the parameters of its path, or why the request is rejected.
    fn route(
        &self,
        request: &Request,
    ) -> std::result::Result<(&'static Route, Vec<String>, Wire), Response> {
        if self.basic.iter().any(|b| !has_credentials(b, request)) {
            return Err(reply::unauthorized());
        }
        let common = &self.config.common;
        let path = path::decode(&request.path).ok_or_else(reply::not_found)?;
        let find = |route: &'static Route| {
            Some((route, route.parameters(&path, &common.status_endpoint)?))
        };
        let mut matching = ROUTES.iter().filter_map(find).peekable();
        // Without a valid certificate only the status endpoint may be open.
        let status = matching.peek().is_some_and(|(r, _)| r.pattern == STATUS);
        if request.access == Access::StatusOnly && (!status || common.status_ou_verify) {
            return Err(reply::text(401, "Invalid OU\n"));
        }
        // A wrong method on a known path is not an endpoint.
        let (route, parameters) = matching
            .find(|(route, _)| route.method == request.method)
            .ok_or_else(reply::not_found)?;
        if route.class != Class::Token {
            return Ok((route, parameters, Wire::V2));
        }
        let token = auth::token(&common.token_http_header, request);
        let may_be_classic = if route.of_both {
            self.contacts.may_be_classic()
        } else {
            self.config.orchestrator.protocol != Protocol::V2
        };
        match self.contacts.wire_of(&token) {
            Some(wire) => Ok((route, parameters, wire)),
            None if route.changes
                && may_be_classic
                && signals(self.config.classic.signal_errors, request) =>
            {
                Err(reply::signalled_invalid_token())
            }
            None => Err(reply::invalid_token()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::path::decode;

    fn found(path: &str) -> Vec<(&'static str, Vec<String>)> {
        let path = decode(path).unwrap();
        let found = |r: &'static Route| Some((r.pattern, r.parameters(&path, "/health/agent")?));
        ROUTES.iter().filter_map(found).collect()
    }

    #[test]
    fn paths_are_decoded_before_they_are_matched() {
        let parameters = ["5", "Mysqldump", "Target"].map(String::from).to_vec();
        assert_eq!(
            found("/api/prepare/5/Mysqldump/Target/"),
            [("/api/prepare/:id/:method/:side", parameters)]
        );
        assert_eq!(
            found("/api/get%2Dagent%2Ddata"),
            [("/api/get-agent-data", vec![])]
        );
        assert_eq!(found("/api//x"), []);
        assert_eq!(found("/api/restore/1/a%2Fb"), [], "one segment each");
    }

    #[test]
    fn the_status_endpoint_has_two_places() {
        for path in [
            "/health/agent",
            "/health/agent/",
            "/api/status",
            "/api/status/",
        ] {
            assert_eq!(found(path), [(STATUS, vec![])], "{path}");
        }
        assert_eq!(found("/health/agent//"), []);
    }

    /// Each path leads to one handler, and each handler gets as many parameters as its pattern names.
    #[test]
    fn patterns_are_distinct_and_well_formed() {
        for route in ROUTES {
            assert!(route.pattern.starts_with("/api/"), "{}", route.pattern);
            let found = found(&route.pattern.replace(':', "x"));
            assert_eq!(found.len(), 1, "{}", route.pattern);
            assert_eq!(found[0].1.len(), route.pattern.matches(':').count());
        }
        let open: Vec<_> = ROUTES.iter().filter(|r| r.class != Token).collect();
        assert_eq!(open.len(), 3, "no other endpoint works without the token");
    }
}
