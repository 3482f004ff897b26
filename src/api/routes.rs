//! Every endpoint, once. To add one, add a line here and the function that it calls.

use super::auth::{has_credentials, has_token};
use super::{Api, path, reply};
use crate::error::{Error, Result};
use crate::http::{Access, Plan, Request, Response};
use std::sync::Arc;

/// Stands for `status-endpoint` in the table.
const STATUS: &str = ":status-endpoint";

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

/// Gets the parameters of the path, in order.
type Handler = fn(&Api, &[String], Request) -> Result<Response>;

struct Route {
    method: &'static str,
    /// Segments that begin with `:` are parameters.
    pattern: &'static str,
    class: Class,
    /// It may use the connections that are kept for status, health and information calls.
    reserved: bool,
    handler: Handler,
}

use Class::{Anyone, Client, Token};

#[rustfmt::skip]
static ROUTES: &[Route] = &[
    information(STATUS, Anyone, |api, _, _| Ok(api.status())),
    information("/api/get-agent-info", Client, |api, _, _| Ok(api.agent_info())),
    information("/api/get-agent-data", Token, |api, _, _| Ok(api.agent_data())),
    information("/api/active-seed", Token, |api, _, _| Ok(api.active_seed())),
    information("/api/seed-stage-state/:id/:stage", Token, |api, p, _| api.stage_state(&p[0], &p[1])),
    get("/api/mysql-error-log-tail", Token, |api, _, _| api.error_log_tail()),
    get("/api/mysql-start", Token, |api, _, _| api.service(true)),
    get("/api/mysql-stop", Token, |api, _, _| api.service(false)),
    get("/api/custom-commands/:name", Token, |api, p, _| api.custom_command(&p[0])),
    get("/api/post-seed-cmd/:id", Token, |api, p, _| api.post_seed(&p[0])),
    get("/api/prepare/:id/:method/:side", Token, |api, p, _| api.prepare(&p[0], &p[1], &p[2])),
    get("/api/backup/:id/:method/:host/:port", Token, |api, p, _| api.backup(&p[0], &p[1], &p[2], &p[3])),
    get("/api/restore/:id/:method", Token, |api, p, _| api.restore(&p[0], &p[1])),
    get("/api/cleanup/:id/:method/:side", Token, |api, p, _| api.cleanup(&p[0], &p[1], &p[2])),
    get("/api/get-metadata/:id/:method", Token, |api, p, _| api.metadata(&p[0], &p[1])),
    get("/api/abort-seed-stage/:id/:stage", Token, |api, p, _| api.abort(&p[0], &p[1])),
    get("/api/hold-applier/:id", Token, |api, p, _| api.hold_applier(&p[0])),
    get("/api/release-applier/:id", Token, |api, p, _| api.release_applier(&p[0])),
    get("/api/mountlv", Token, |_, _, r| not_yet("LVM", &r)),
    get("/api/removelv", Token, |_, _, r| not_yet("LVM", &r)),
    get("/api/umount", Token, |_, _, r| not_yet("LVM", &r)),
    get("/api/create-snapshot", Token, |_, _, r| not_yet("LVM", &r)),
    get("/api/mysql-relay-log-index-file", Token, |_, _, r| not_yet(LOGS, &r)),
    get("/api/mysql-relay-log-files", Token, |_, _, r| not_yet(LOGS, &r)),
    get("/api/mysql-relay-log-end-coordinates", Token, |_, _, r| not_yet(LOGS, &r)),
    get("/api/mysql-binlog-contents", Token, |_, _, r| not_yet(LOGS, &r)),
    get("/api/mysql-binlog-binary-contents", Token, |_, _, r| not_yet(LOGS, &r)),
    get("/api/mysql-relaylog-contents-tail/:log/:start", Token, |_, _, r| not_yet(LOGS, &r)),
    Route { method: "POST", ..get("/api/apply-relaylog-contents", Token, |_, _, r| not_yet(LOGS, &r)) },
];

const fn get(pattern: &'static str, class: Class, handler: Handler) -> Route {
    Route {
        method: "GET",
        pattern,
        class,
        reserved: false,
        handler,
    }
}

const fn information(pattern: &'static str, class: Class, handler: Handler) -> Route {
    Route {
        reserved: true,
        ..get(pattern, class, handler)
    }
}

const LOGS: &str = "moving binary and relay logs";

/// What is not built yet answers an error that orchestrator understands: it takes status 404 for a success.
fn not_yet(what: &str, request: &Request) -> Result<Response> {
    log::debug!("{} requested", request.path);
    Err(Error::permanent(format!(
        "{what} is not part of this version yet"
    )))
}

impl Route {
    /// The parameters, if the decoded `path` is this route's; one trailing slash is allowed.
    fn parameters(&self, path: &str, status: &str) -> Option<Vec<String>> {
        if self.pattern == STATUS {
            let same = path == status || path.strip_suffix('/') == Some(status);
            return same.then(Vec::new);
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
            Ok((route, parameters)) => {
                let api = Arc::clone(self);
                Plan {
                    reserved: route.reserved,
                    spool: None,
                    answer: Box::new(move |r| {
                        let answer = (route.handler)(&api, &parameters, r);
                        answer.unwrap_or_else(|e| reply::error(&e.to_string()))
                    }),
                }
            }
        }
    }

    /// The endpoint and the parameters of its path, or why the request is rejected.
    fn route(
        &self,
        request: &Request,
    ) -> std::result::Result<(&'static Route, Vec<String>), Response> {
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
        let token = || has_token(&self.token, &common.token_http_header, request);
        if route.class == Class::Token && !token() {
            return Err(reply::invalid_token());
        }
        Ok((route, parameters))
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
    fn the_status_endpoint_can_be_moved() {
        assert_eq!(found("/health/agent/"), [(STATUS, vec![])]);
        assert_eq!(found("/api/status"), []);
    }

    /// Each path leads to one handler, and each handler gets as many parameters as its pattern names.
    #[test]
    fn patterns_are_distinct_and_well_formed() {
        for route in ROUTES.iter().filter(|r| r.pattern != STATUS) {
            assert!(route.pattern.starts_with("/api/"), "{}", route.pattern);
            let found = found(&route.pattern.replace(':', "x"));
            assert_eq!(found.len(), 1, "{}", route.pattern);
            assert_eq!(found[0].1.len(), route.pattern.matches(':').count());
        }
        let open: Vec<_> = ROUTES.iter().filter(|r| r.class != Token).collect();
        assert_eq!(open.len(), 2, "no other endpoint works without the token");
    }
}
