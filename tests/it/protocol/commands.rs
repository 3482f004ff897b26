//! Custom commands and the hook after a seed, without a MySQL.

use crate::support::lone::Lone;
use crate::support::wire::JSON;
use crate::support::{assert_prompt, processes_with, wait_for};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

fn with_commands(commands: &[(&str, &str)]) -> Lone {
    let mut agent = Lone::new();
    for (name, line) in commands {
        agent.with(
            &format!("custom-commands.{name}"),
            format!("cmd = '''{line}'''"),
        );
    }
    agent.start()
}

fn ok(message: &str) -> String {
    format!(
        "{{\"Code\":\"OK\",\"Message\":{},\"Details\":null}}",
        serde_json::to_string(message).expect("JSON")
    )
}

#[test]
fn the_output_comes_in_an_ok_envelope() {
    let agent = with_commands(&[
        ("hello", "echo hello"),
        ("silent", "true"),
        ("my-cmd_2", "printf 'no line end'"),
    ]);
    agent
        .call("/api/custom-commands/hello")
        .is(200, JSON, &ok("hello\n"));
    agent
        .call("/api/custom-commands/hello/")
        .is(200, JSON, &ok("hello\n"));
    agent
        .call("/api/custom-commands/silent")
        .is(200, JSON, &ok(""));
    agent
        .call("/api/custom-commands/my-cmd_2")
        .is(200, JSON, &ok("no line end"));
    assert_eq!(
        agent.call("/api/custom-commands/nope").message(),
        "nope : Command not found"
    );
    assert_eq!(
        agent.call("/api/custom-commands/HELLO").message(),
        "HELLO : Command not found"
    );
    agent
        .call("/api/custom-commands")
        .is(404, "text/plain; charset=utf-8", "404 page not found\n");
    assert_eq!(
        agent.json("/api/get-agent-data")["AgentCommands"],
        serde_json::json!(["hello", "my-cmd_2", "silent"])
    );
}

/// What stands in the configuration means what it means in a shell.
#[test]
fn a_command_is_a_shell_command() {
    let agent = with_commands(&[
        ("pipe", r#"echo 'a|b' "c > d" | tr a-z A-Z"#),
        ("logic", "false || echo or; true && echo and"),
        (
            "variables",
            r#"X=7; echo "$X $((X * 6)) $(echo sub) `echo tick`" '$X'"#,
        ),
        ("wildcard", "cd /proc/self && ls -d stat[m]"),
        ("nested", r#"bash -c 'echo one | cat; echo "two three"'"#),
        (
            "options",
            "echo *nothing-here* @x +y (".trim_end_matches(" ("),
        ),
        ("escaped", r#"printf '%s' '<a href="x">&'"#),
    ]);
    let message = |name: &str| {
        let body = agent.call(&format!("/api/custom-commands/{name}"));
        let v: serde_json::Value = serde_json::from_str(&body.body).expect("JSON");
        assert_eq!(v["Code"], "OK", "{body:?}");
        v["Message"].as_str().expect("text").to_string()
    };
    assert_eq!(message("pipe"), "A|B C > D\n");
    assert_eq!(message("logic"), "or\nand\n");
    assert_eq!(message("variables"), "7 42 sub tick $X\n");
    assert_eq!(message("wildcard"), "statm\n");
    assert_eq!(message("nested"), "one\ntwo three\n");
    assert_eq!(message("options"), "*nothing-here* @x +y\n");
    // As Go writes JSON.
    let body = agent.call("/api/custom-commands/escaped").body;
    assert_eq!(
        body,
        r#"{"Code":"OK","Message":"\u003ca href=\"x\"\u003e\u0026","Details":null}"#
    );
}

#[test]
fn redirections_are_the_shells_too() {
    let mut agent = Lone::new();
    let file = agent.dir.join("out put");
    let line = format!(
        "cmd = '''echo one > '{0}' && echo two >> '{0}' && cat < '{0}' '''",
        file.display()
    );
    agent.with("custom-commands.redirect", line);
    let agent = agent.start();
    for _ in 0..2 {
        agent
            .call("/api/custom-commands/redirect")
            .is(200, JSON, &ok("one\ntwo\n"));
    }
    assert_eq!(
        std::fs::read_to_string(file).expect("written"),
        "one\ntwo\n"
    );
}

#[test]
fn a_failure_has_the_form_of_the_go_agent() {
    let agent = with_commands(&[
        ("fails", "ls /no/such/place"),
        ("quiet", "exit 3"),
        (
            "umount",
            "sh -c 'echo out; echo \"umount: /backup: not mounted.\" >&2; exit 32'",
        ),
        ("missing", "no-such-program-here --x"),
    ]);
    let message = |name: &str| {
        agent
            .call(&format!("/api/custom-commands/{name}"))
            .message()
    };
    let text = message("fails");
    assert!(
        text.starts_with("error: command \"ls\": exit status 2, stderr: ls: ")
            && text.ends_with('\n'),
        "{text}"
    );
    assert!(text.contains("/no/such/place"), "{text}");
    assert_eq!(
        message("quiet"),
        "error: command \"exit\": exit status 3, stderr: "
    );
    assert_eq!(
        message("umount"),
        "error: command \"sh\": exit status 32, stderr: umount: /backup: not mounted.\n"
    );
    let text = message("missing");
    assert!(
        text.starts_with("error: command \"no-such-program-here\": exit status 127, stderr: "),
        "{text}"
    );
}

#[test]
fn a_slow_command_is_ended_with_its_children_and_delays_nobody() {
    let mut agent = Lone::new();
    agent.with("common", "command-timeout = \"10s\"").with(
        "custom-commands.slow",
        "cmd = 'sleep 3071.5 | cat & sleep 3071.5; echo never'",
    );
    let agent = agent.start();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| agent.call("/api/custom-commands/slow").message());
        wait_for("the command runs", Duration::from_secs(5), || {
            (processes_with("sleep 3071.5").len() >= 2).then_some(())
        });
        let mut took = Vec::new();
        while !slow.is_finished() {
            for path in ["/api/get-agent-data", "/api/get-agent-info"] {
                let begin = Instant::now();
                agent.json(path);
                took.push(begin.elapsed());
            }
        }
        assert_prompt(took);
        let text = slow.join().expect("an answer");
        assert!(
            text.contains("explicitly killed") && text.contains("command-timeout"),
            "{text}"
        );
    });
    wait_for("its children are gone", Duration::from_secs(5), || {
        processes_with("sleep 3071.5").is_empty().then_some(())
    });
}

/// The hook belongs to a seed. It is no command to call, and not listed as one.
#[test]
fn the_hook_runs_only_for_the_seed() {
    let agent = with_commands(&[("post-seed-command", "echo \"seeded $(echo well)\"")]);
    assert_eq!(
        agent
            .call("/api/custom-commands/post-seed-command")
            .message(),
        "post-seed-command : Command not found"
    );
    assert_eq!(
        agent.json("/api/get-agent-data")["AgentCommands"],
        serde_json::Value::Null,
        "null if none"
    );
    let not_found = "Unable to execute post seed command. SeedID not found";
    assert_eq!(agent.call("/api/post-seed-cmd/5").message(), not_found);
    assert_eq!(agent.call("/api/post-seed-cmd/0").message(), not_found);
    // The preparation fails for want of MySQL; the seed is this host's all the same.
    assert_eq!(
        agent.call("/api/prepare/5/Mysqldump/Source").body,
        "Started"
    );
    agent
        .call("/api/post-seed-cmd/5")
        .is(200, JSON, &ok("seeded well\n"));
    agent
        .call("/api/post-seed-cmd/5")
        .is(200, JSON, &ok("seeded well\n"));
    assert_eq!(agent.call("/api/post-seed-cmd/6").message(), not_found);
    let text = agent.call("/api/post-seed-cmd/five").message();
    assert!(
        text.starts_with("strconv.ParseInt: parsing \"five\": invalid syntax"),
        "{text}"
    );
}

#[test]
fn without_a_hook_the_answer_is_true() {
    let agent = with_commands(&[("other", "true")]);
    assert_eq!(
        agent.call("/api/prepare/5/Mysqldump/Source").body,
        "Started"
    );
    agent.call("/api/post-seed-cmd/5").is(200, JSON, "true");
    assert_eq!(
        agent.call("/api/post-seed-cmd/4").message(),
        "Unable to execute post seed command. SeedID not found"
    );
    let failing = with_commands(&[("post-seed-command", "echo no >&2; exit 9")]);
    assert_eq!(
        failing.call("/api/prepare/5/Mysqldump/Source").body,
        "Started"
    );
    assert_eq!(
        failing.call("/api/post-seed-cmd/5").message(),
        "error: command \"echo\": exit status 9, stderr: no\n"
    );
}

/// What the agent starts lives on with its limits: MySQL, when a service command forks it.
#[test]
fn a_command_has_the_limits_that_the_agent_was_started_with() {
    let mut agent = Lone::new();
    let started = agent.dir.join("started");
    agent
        .with("custom-commands.limit", "cmd = \"ulimit -Sn\"")
        .with(
            "mysql",
            format!(
                "service-start-command = \"ulimit -Sn > '{}'\"",
                started.display()
            ),
        )
        .write();
    let limited = agent.dir.join("limited");
    let text = format!(
        "#!/bin/sh\nulimit -Sn 300; exec '{}' \"$@\"\n",
        agent.program.display()
    );
    std::fs::write(&limited, text).expect("script");
    std::fs::set_permissions(&limited, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    agent.program = limited;
    let agent = agent.start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", agent.pid())).expect("limits");
    let line = limits.lines().find(|l| l.starts_with("Max open files"));
    let numbers: Vec<&str> = line.expect("limit").split_whitespace().skip(3).collect();
    assert_eq!(numbers[0], numbers[1], "its own are raised: {limits}");
    assert_ne!(numbers[0], "300");
    agent
        .call("/api/custom-commands/limit")
        .is(200, JSON, &ok("300\n"));
    agent.json("/api/mysql-start");
    assert_eq!(std::fs::read_to_string(started).expect("it ran"), "300\n");
}
