//! The usage text of `seed`.

/// The text for `seed --help` and for a wrong command line.
pub(crate) const USAGE: &str = "\
usage: orchestrator-agent seed --source HOST[:AGENTPORT] --target HOST[:AGENTPORT] [options]

Makes the target a copy of the source and its replica, without an orchestrator. Both hosts run orchestrator-agent.
An option is written --name value or --name=value; IPv6 addresses are in brackets.

  --source HOST[:AGENTPORT]         host to copy; the target uses this name as the source's address
  --target HOST[:AGENTPORT]         host to overwrite
  --method auto|NAME                Xtrabackup, ClonePlugin, Mydumper or Mysqldump; auto, the
                                    default: the first of these that makes an exact copy
  --dry-run                         check everything, change nothing
  --force                           allow a target that is a replica: its replication is stopped and reconfigured; delay,
                                    retries, TLS and all other options of its channel are kept
  --seed-id N                       seed ID (default: the current Unix timestamp)
  --poll DURATION                   how often the agents are polled (default: 1s)
  --json                            for programs: one JSON object a line on standard output and nothing else, the last one
                                    with the event \"result\"; contrib/doc/seed-json.md describes them

Agents: they register with this command, or their tokens are read from files.
  --listen ADDR:PORT                where the agents register (default: :3001); their orchestrator.url and
                                    orchestrator.agents-port must point here
  --agent-wait DURATION             how long to wait for both (default: 90s)
  --source-token-file FILE          token of the source's agent (its token-hint-file); --listen is not used then
  --target-token-file FILE          the same of the target's agent
  --https                           the agents serve HTTPS (their use-ssl), with certificates that are verified
  --ca-file FILE                    certificate authorities in addition to the system's
  --skip-verify                     do not verify the certificates (insecure)
  --cert-file FILE, --key-file FILE client certificate and key for agents with use-mutual-tls
  --http-auth-file FILE             USER:PASSWORD for agents with http-auth-user

MySQL: one account for both servers. After the copy the target has the source's accounts.
  --mysql-user USER                 needs REPLICATION SLAVE ADMIN and SLAVE MONITOR (MySQL: REPLICATION_SLAVE_ADMIN and
                                    REPLICATION CLIENT), PROCESS, SELECT, EVENT, and RELOAD with --force
  --mysql-password-file FILE        its password
  --config FILE                     take user and password from [mysql] of an agent's configuration

Replication:
  --replication-user USER           account by which the target replicates (default: what the target has already)
  --replication-password-file FILE  its password; the target tries both before anything is changed
  --replication-tls                 encrypt the connection; implied if the account has REQUIRE SSL
  --replication auto|gtid|position  coordinates to start from (auto: GTID where the source has them)
  --connect-to HOST[:PORT]          replicate from this server, which must have the source's GTIDs
  --no-connect                      do not connect replication

Verification:
  --verify, --verify=sample         compare the data of source and target afterwards, while the source stays online: all
                                    rows, or of tables above 64 MiB a sample; see contrib/doc/seed-verify.md
  --verify-max-time DURATION        how long a snapshot of both servers is kept (default: 1h); the remaining tables are
                                    compared in a new snapshot

SIGINT or SIGTERM aborts the seed on both agents; a second one exits at once, without cleanup. SIGHUP is
ignored: the seed survives the loss of the terminal.

exit codes: 0 success; 1 failed before anything on the target was changed; 2 wrong command line; 3 failed later: the
message states whether the target's data are partial and whether replication is connected; 4 success, but the data differ
(--verify); 5 success, but not all data could be compared (--verify); 130 interrupted. Any other: failure.
";
