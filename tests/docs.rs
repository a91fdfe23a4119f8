//! What README and docs/ say is true: every configuration that they show loads, every table of words is the program's own
//! list, every row of the rule tables is decided as it says, and every link has a target.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use egressd::config;
use egressd::session::refuse::reply::{WireForm, wire_form};
use egressd::telemetry::record::{ECS, ECS_VERSION, Event, FIELDS, OCSF, OCSF_VERSION};
use egressd::words::client::Client;
use egressd::words::logformat::Note;
use egressd::words::outcome::{Ending, Reason};
use egressd::words::target::Target;
use serde_json::Value;

/// Every page of the documentation.
fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir("docs").expect("the directory is in the repository");
    let docs = docs.map(|entry| entry.expect("readable").path());
    let mut pages: Vec<PathBuf> =
        docs.filter(|path| path.extension().is_some_and(|ext| ext == "md")).collect();
    pages.extend(
        ["README.md", "README.ja.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(PathBuf::from),
    );
    pages.sort();
    pages
}

fn read(page: impl AsRef<Path>) -> String {
    std::fs::read_to_string(page.as_ref()).expect("the page is in the repository")
}

/// The fenced blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let (mut found, mut inside) = (Vec::new(), None);
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut inside) {
            (Some(fence), None) => inside = Some((fence == language, String::new())),
            (Some(_), Some((wanted, block))) => {
                if *wanted {
                    found.push(std::mem::take(block));
                }
                inside = None;
            }
            (None, Some((_, block))) => {
                let _ = writeln!(block, "{line}");
            }
            (None, None) => {}
        }
    }
    found
}

/// The cells of every row of the table whose header row begins with `header`, without the header and the line below it.
fn table(text: &str, header: &str) -> Vec<Vec<String>> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(header));
    assert!(lines.next().is_some(), "no table begins with {header:?}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The texts between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What a reader of the page would have in a file with this name.
fn file(path: &Path) -> std::io::Result<Vec<u8>> {
    static OWN: OnceLock<(String, String)> = OnceLock::new();
    let (certificate, key) = OWN.get_or_init(|| {
        let own = rcgen::generate_simple_self_signed(["egressd.example.internal".to_owned()])
            .expect("a certificate");
        (own.cert.pem(), own.signing_key.serialize_pem())
    });
    // One that may sign for every host, as each page has its own.
    let authority = match path.file_name().and_then(|name| name.to_str()) {
        Some("authority.crt") => Some("authority-free.crt"),
        Some("authority.key") => Some("authority.key"),
        _ => None,
    };
    if let Some(name) = authority {
        return std::fs::read(Path::new("tests/lint/files").join(name));
    }
    let content = match path.extension().and_then(|extension| extension.to_str()) {
        Some("crt") => certificate,
        Some("key") => key,
        Some("cred") => "gitlab-mirror-at-456247553902:s3cret\n",
        Some("htpasswd") => "gitaly:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n",
        _ if path.ends_with("offices") => "192.0.2.0/24\n",
        _ => "example.com\n",
    };
    Ok(content.into())
}

/// A configuration that is shown, with a file in each folder.
struct Shown<'t>(&'t str);

impl config::ReadFiles for Shown<'_> {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        match path.to_str() {
            Some("shown.yaml") => Ok(self.0.into()),
            Some(path) if path.ends_with(".yaml") => {
                Ok("policies: [{name: team, allow: [a.example]}]".into())
            }
            _ => file(path),
        }
    }

    fn names(&self, _: &Path) -> std::io::Result<Vec<std::ffi::OsString>> {
        Ok(vec!["team.yaml".into()])
    }
}

fn load(yaml: &str) -> config::Loaded {
    config::load_str("shown.yaml", yaml, file).unwrap_or_else(|findings| panic!("{findings:#?} in\n{yaml}"))
}

#[test]
fn every_configuration_that_is_shown_loads() {
    let mut shown = 0;
    for page in pages() {
        for block in blocks(&read(&page), "yaml") {
            if block.starts_with("include:") {
                let loaded = config::load_by(Some(Path::new("shown.yaml")), &Shown(&block));
                loaded.unwrap_or_else(|findings| panic!("{findings:#?} in\n{block}"));
                shown += 1;
            } else if block.starts_with("image:") {
                // Values of the chart, whose `config` is the configuration; JSON is YAML.
                let values: Value =
                    serde_saphyr::from_str(&block).unwrap_or_else(|error| panic!("{error}: {block}"));
                load(&values["config"].to_string());
                shown += 1;
            } else if block.contains("policies:")
                || block.starts_with("listeners:")
                || block.starts_with("dns:")
            {
                load(&block);
                shown += 1;
            }
        }
    }
    assert!(shown >= 8, "{shown} configurations found");
}

/// The parts of a page that a translation does not change: its code, its number of headings, the first column of its tables
/// if that is code, and the targets of its links.
fn bones(page: &str) -> (Vec<String>, usize, Vec<String>, BTreeSet<String>) {
    let text = read(page);
    let (mut code, mut headings, mut first_cells, mut inside) = (Vec::new(), 0, Vec::new(), false);
    for line in text.lines() {
        let fence = line.starts_with("```");
        if inside || fence {
            code.push(line.to_owned());
            inside ^= fence;
        } else if line.starts_with('#') {
            headings += 1;
        } else if let Some(row) = line.strip_prefix("| ") {
            let cell = row.split(" | ").next().unwrap_or_default();
            first_cells.push(quoted(cell).join(" "));
        }
    }
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.starts_with("README")).map(str::to_owned);
    (code, headings, first_cells, links.collect())
}

/// An edit of one of the two needs the same edit of the other.
#[test]
fn the_japanese_readme_is_in_step_with_the_english_one() {
    let (english, japanese) = (bones("README.md"), bones("README.ja.md"));
    assert_eq!(english.0, japanese.0, "the code blocks are the same");
    assert_eq!(english.1, japanese.1, "as many headings");
    assert_eq!(english.2, japanese.2, "the same commands in the tables");
    assert_eq!(english.3, japanese.3, "the same links");
}

#[test]
fn every_command_stands_in_the_readme() {
    let shown =
        std::process::Command::new(env!("CARGO_BIN_EXE_egressd")).arg("--help").output().expect("it runs");
    let help = String::from_utf8(shown.stdout).expect("UTF-8");
    let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let commands: BTreeSet<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    let readme = read("README.md");
    let rows = table(&readme, "| command | does |");
    let told: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| quoted(&row[0]))
        .filter_map(|text| text.strip_prefix("egressd ")?.split(' ').next())
        .collect();
    assert_eq!(told, commands);
}

#[test]
fn every_configuration_that_is_shipped_loads() {
    let mut shipped = Vec::new();
    let mut directories = vec![PathBuf::from("docker"), PathBuf::from("k8s")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("the directory is in the repository") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.file_name().is_some_and(|name| name == "egressd.yaml") {
                shipped.push(path);
            }
        }
    }
    assert!(shipped.len() >= 3, "{shipped:?}");
    for path in shipped {
        // Certificates belong to the cluster: they are not in the repository. Lists are.
        let is_secret = |named: &Path| {
            named.extension().is_some_and(|end| ["crt", "key", "cred"].iter().any(|secret| end == *secret))
        };
        let read = |named: &Path| {
            std::fs::read(named).or_else(|error| if is_secret(named) { file(named) } else { Err(error) })
        };
        let text = std::fs::read(&path).expect("listed just now");
        let name = path.display().to_string();
        if let Err(findings) = config::load_bytes(&name, &text, read) {
            panic!("{findings:#?}");
        }
    }
}

/// docs/sets.md has the table of what is shipped, and no set that is not.
#[test]
fn every_rule_set_is_listed() {
    let rows = table(&read("docs/sets.md"), "| set | for |");
    let told: Vec<(String, String, String)> = rows
        .iter()
        .map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone(), row[2].trim_matches('`').to_owned()))
        .collect();
    let shipped = config::sets::names().into_iter().map(|name| {
        let newest = config::sets::versions(name).last().copied().expect("a version");
        let set = config::sets::find(name, newest).expect("it can be read");
        let parameters: Vec<&str> = set.parameters.iter().map(|parameter| parameter.key()).collect();
        (name.to_owned(), set.title.to_owned(), parameters.join("` `"))
    });
    assert_eq!(told, shipped.collect::<Vec<_>>());
}

#[test]
fn the_cases_that_are_shown_can_be_run() {
    let shown = blocks(&read("docs/commands.md"), "yaml");
    let cases = shown.iter().find(|block| block.starts_with("cases:")).expect("cases are shown");
    assert!(
        egressd::commands::test::load("cases.yaml", cases.as_bytes()).is_ok_and(|cases| cases.len() == 4)
    );
}

/// `CONNECT host:port` or `GET http://…`, decided by one policy with these rules: the rule that allowed it.
fn decided(rules: &[&str], request: &str) -> Option<String> {
    let list: String = rules.iter().map(|rule| format!("      - \"{rule}\"\n")).collect();
    let config = load(&format!("policies:\n  - name: p\n    allow:\n{list}")).config;
    let target = match request.split_once(' ') {
        Some(("CONNECT", authority)) => Target::connect(authority),
        Some(("GET", uri)) => {
            let rest = uri.strip_prefix("http://").expect("a plain request is for http://");
            Target::http(rest.split('/').next().unwrap_or_default())
        }
        _ => panic!("{request:?} is not a request"),
    };
    let target = target.unwrap_or_else(|error| panic!("{request}: {error}"));
    let client = Client::direct(([10, 0, 0, 1], 4711).into());
    let permit = config.policies.decide(&target, &client, jiff::Timestamp::now()).ok()?;
    permit.rule.map(|rule| rule.text.to_string())
}

#[test]
fn each_rule_lets_through_what_the_table_says_and_nothing_else_of_it() {
    let rows = table(&read("docs/rules.md"), "| rule | lets through |");
    assert!(rows.len() >= 10, "{} rows", rows.len());
    for row in rows {
        let [rule, passes, not] = &row[..] else { panic!("{row:?}") };
        let rule = quoted(rule);
        for request in quoted(passes) {
            assert!(decided(&rule, request).is_some(), "{rule:?} should let {request} through");
        }
        for request in quoted(not) {
            assert!(decided(&rule, request).is_none(), "{rule:?} should not let {request} through");
        }
    }
}

#[test]
fn the_rule_that_the_table_names_decides() {
    let rows = table(&read("docs/rules.md"), "| of these rules |");
    assert!(rows.len() >= 6, "{} rows", rows.len());
    for row in rows {
        let [rules, request, decides] = &row[..] else { panic!("{row:?}") };
        let (rules, request, want) = (quoted(rules), quoted(request)[0], quoted(decides)[0]);
        assert_eq!(decided(&rules, request).as_deref(), Some(want), "{rules:?} {request}");
    }
}

#[test]
fn every_reason_stands_in_the_table_with_its_status() {
    let rows = table(&read("docs/reasons.md"), "| status | reason |");
    let told: Vec<(String, String)> =
        rows.iter().map(|row| (row[0].clone(), quoted(&row[1])[0].to_owned())).collect();
    let mut due = 0;
    for reason in Reason::ALL {
        let statuses = match wire_form(*reason) {
            WireForm::Reply { status, .. } => vec![status.to_string()],
            WireForm::Either { status, .. } => vec![status.to_string(), "alert".to_owned()],
            WireForm::InTunnel(Some(_)) => vec!["alert".to_owned()],
            WireForm::InTunnel(None) | WireForm::Closed => vec!["closed".to_owned()],
        };
        due += statuses.len();
        for status in statuses {
            let row = (status, reason.to_string());
            assert!(told.contains(&row), "{row:?} is not in the table");
        }
    }
    assert_eq!(told.len(), due, "a reason stands there twice, or is none");
}

#[test]
fn every_alert_stands_with_its_reasons() {
    let page = read("docs/reasons.md");
    let rows = table(&page, "| alert | number | reasons |");
    let told: BTreeSet<(&str, &str)> = rows
        .iter()
        .flat_map(|row| quoted(&row[2]).into_iter().map(|reason| (row[1].as_str(), reason)))
        .collect();
    let numbers: Vec<(String, &str)> = Reason::ALL
        .iter()
        .filter_map(|reason| match wire_form(*reason) {
            WireForm::InTunnel(Some(alert)) | WireForm::Either { alert, .. } => {
                Some(((alert as u8).to_string(), reason.as_str()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(told, numbers.iter().map(|(number, reason)| (number.as_str(), *reason)).collect());
}

#[test]
fn every_ending_stands_in_the_table() {
    let rows = table(&read("docs/log.md"), "| ending |");
    let told: Vec<&str> = rows.iter().map(|row| quoted(&row[0])[0]).collect();
    let words: Vec<&str> = Ending::ALL.iter().map(|ending| ending.as_str()).collect();
    assert_eq!(told, words);
}

/// The members of a record, in the order in which they are written.
fn members(line: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(line).expect("a record is a JSON object");
    let mut names: Vec<String> = value.as_object().expect("a JSON object").keys().cloned().collect();
    names.sort_by_key(|name| line.find(&format!("\"{name}\":")));
    names
}

#[test]
fn every_field_and_event_of_a_record_stands_in_the_tables() {
    let text = read("docs/log.md");
    let fields: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
    let told: Vec<String> =
        table(&text, "| field |").iter().map(|row| quoted(&row[0])[0].to_owned()).collect();
    assert_eq!(told, fields);

    let events: Vec<&str> = Event::ALL.iter().map(|event| event.as_str()).collect();
    let told: Vec<String> =
        table(&text, "| event |").iter().map(|row| quoted(&row[0])[0].to_owned()).collect();
    assert_eq!(told, events);

    let codes = table(&text, "| code |");
    let told = codes.iter().find(|row| quoted(&row[0]) == ["%{…}note"]).expect("a row of notes");
    let notes: Vec<&str> = Note::ALL.iter().map(|note| note.as_str()).collect();
    assert_eq!(quoted(&told[1]), notes);

    for page in pages() {
        for block in blocks(&read(&page), "json") {
            for line in block.lines() {
                assert_eq!(members(line), fields, "a record in {}", page.display());
            }
        }
    }
}

#[test]
fn every_fields_place_in_a_schema_stands_in_the_table() {
    let text = read("docs/log.md");
    let rows = table(&text, "| in JSON |");
    let told = |column: usize| -> Vec<(String, String)> {
        rows.iter().map(|row| (quoted(&row[0]).join(" "), quoted(&row[column]).join(" "))).collect()
    };
    for (column, places) in [(1, ECS), (2, OCSF)] {
        let places: Vec<(String, String)> =
            places.iter().map(|(field, place)| ((*field).to_owned(), (*place).to_owned())).collect();
        assert_eq!(told(column), places);
    }
    assert!(text.contains(&format!("Elastic Common Schema {ECS_VERSION}")));
    assert!(text.replace('\n', " ").contains(&format!("Open Cybersecurity Schema Framework {OCSF_VERSION}")));
}

/// The text of every source file in `directory` and below, without tests.
fn sources(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the directory is in the repository") {
        let path = entry.expect("readable").path();
        match path.file_name().and_then(|name| name.to_str()) {
            Some("tests" | "tests.rs") => {}
            _ if path.is_dir() => found.extend(sources(&path)),
            _ => {
                let text = read(&path);
                found.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

/// The names of the metrics are whole strings in their source files.
#[test]
fn every_metric_stands_in_the_table() {
    let sources = sources(Path::new("src/telemetry/metrics"));
    assert!(sources.len() >= 5, "{} sources", sources.len());
    let strings = sources.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
    let is_name = |text: &&str| {
        text.starts_with("egressd_") && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let named: BTreeSet<&str> = strings.filter(is_name).collect();
    let rows = table(&read("docs/metrics.md"), "| metric |");
    let told: BTreeSet<&str> =
        rows.iter().map(|row| quoted(&row[0])[0]).filter(|name| *name != "process_*").collect();
    assert_eq!(told, named);
}

/// Every key of the schema as the path that the docs use: `policies[].clients.networks`.
fn keys(schema: &Value, at: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(reference) = at["$ref"].as_str() {
        let name = reference.trim_start_matches("#/$defs/");
        keys(schema, &schema["$defs"][name], path, found);
    }
    if let Some(items) = at.get("items") {
        keys(schema, items, &format!("{path}[]"), found);
    }
    for one in at["anyOf"].as_array().into_iter().flatten() {
        keys(schema, one, path, found);
    }
    for (name, property) in at["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        found.push(path.clone());
        keys(schema, property, &path, found);
    }
}

#[test]
fn every_key_of_the_file_is_explained() {
    let schema = config::schema();
    let mut found = Vec::new();
    keys(&schema, &schema, "", &mut found);
    assert!(found.len() > 60, "{} keys", found.len());
    let text = read("docs/configuration.md");
    let (now, later) = text.split_once("## Not in this version").unwrap_or((&text, ""));
    let words = |text| -> BTreeSet<&str> {
        quoted(text).into_iter().map(|word| word.split(':').next().unwrap_or(word)).collect()
    };
    let (now, later) = (words(now), words(later));
    let told = |path: &str| {
        let option =
            path.strip_prefix("policies[].allow[].").or(path.strip_prefix("policies[].allow_files[]."));
        let mut around = path.match_indices('.').map(|(end, _)| &path[..end]).chain([path]);
        // In a section, each key is explained by itself.
        let is_section = found.iter().any(|other| {
            other.strip_prefix(path).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("[]."))
        });
        is_section
            || now.contains(path)
            || option.is_some_and(|option| now.contains(option) || later.contains(option))
            || around.any(|path| later.contains(path))
    };
    let missing: Vec<&String> = found.iter().filter(|path| !told(path)).collect();
    assert!(missing.is_empty(), "not in docs/configuration.md: {missing:#?}");
}

#[test]
fn every_key_but_the_options_of_rules_stands_in_the_built_in_configuration() {
    let schema = config::schema();
    let mut found = Vec::new();
    keys(&schema, &schema, "", &mut found);
    let text = read("config/egressd.yaml");
    // Those of comments too.
    let words: BTreeSet<&str> = text
        .split(|char: char| !(char.is_ascii_alphanumeric() || char == '_' || char == ':'))
        .filter_map(|word| word.strip_suffix(':'))
        .collect();
    let is_option = |path: &str| path.contains("allow[].") || path.contains("_files[].");
    let missing: Vec<&String> = found
        .iter()
        .filter(|path| !is_option(path))
        .filter(|path| !words.contains(path.rsplit('.').next().unwrap_or(path).trim_end_matches("[]")))
        .collect();
    assert!(missing.is_empty(), "not in config/egressd.yaml: {missing:#?}");
}

/// docs/install.md says of each file with a secret where it belongs and how it is replaced.
#[test]
fn every_secret_stands_in_the_table() {
    let schema = config::schema();
    let mut found = Vec::new();
    keys(&schema, &schema, "", &mut found);
    let is_secret = |path: &&String| {
        let key = path.rsplit('.').next().unwrap_or(path).trim_end_matches("[]");
        ["key", "credentials_file", "users_file", "headers_file", "set_files"].contains(&key)
    };
    let secrets: BTreeSet<String> = found
        .iter()
        .filter(is_secret)
        .map(|path| path.replace("[]", ""))
        .map(|path| path.replace("policies.allow_files.", "").replace("policies.allow.", ""))
        .collect();
    let rows = table(&read("docs/install.md"), "| key | what it is |");
    let told: BTreeSet<String> = rows.iter().map(|row| quoted(&row[0]).concat()).collect();
    assert_eq!(told, secrets);
}

/// The whole setting for GitLab, which readers copy, is what the command above it prints.
#[test]
fn the_setting_for_gitlab_is_what_the_command_prints() {
    let page = read("docs/gitlab.md");
    let shown = blocks(&page, "console")
        .into_iter()
        .find(|block| block.starts_with("$ egressd env "))
        .expect("a command");
    let words: Vec<&str> = shown.split_whitespace().skip(2).collect();
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_egressd"))
        .env_clear()
        .args(words)
        .output()
        .expect("it runs");
    let printed = String::from_utf8(ran.stdout).expect("UTF-8");
    let setting =
        blocks(&page, "ruby").into_iter().find(|block| block.contains("gitaly['env']")).expect("a setting");
    assert!(printed == setting, "docs/gitlab.md should show\n{printed}");
}

/// The anchors that GitHub makes from the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        heading
            .trim_start_matches('#')
            .trim()
            .to_lowercase()
            .chars()
            .filter(kept)
            .collect::<String>()
            .replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = read(&page);
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap_or_default();
            if link.starts_with("https://") {
                continue;
            }
            let (path, anchor) =
                link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let directory = page.parent().unwrap_or(Path::new(""));
            let target = if path.is_empty() { page.clone() } else { directory.join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if let Some(anchor) = anchor {
                assert!(anchors(&read(&target)).contains(anchor), "{}: no heading #{anchor}", page.display());
            }
            links += 1;
        }
    }
    assert!(links > 20, "{links} links");
}

/// What a newcomer sees first. The hash is of the built-in configuration, which changes more often than the page.
#[test]
fn the_readmes_show_the_hash_of_the_built_in_configuration() {
    let hash = load(config::DEFAULT).config.hash.short().to_string();
    for page in ["README.md", "README.ja.md"] {
        let text = read(page);
        let shown: BTreeSet<&str> = text
            .split_once(" INFO configuration ")
            .map(|(_, rest)| &rest[..12])
            .into_iter()
            .chain(text.split("\"config\":\"").skip(1).map(|rest| &rest[..12]))
            .collect();
        assert_eq!(shown, BTreeSet::from([hash.as_str()]), "{page}");
    }
}

/// What `systemctl status` says once the file that the page shows is in force; tests/long/vm follows the page on a machine.
#[test]
fn the_page_for_virtual_machines_shows_the_hash_of_its_configuration() {
    let page = read("docs/install.md");
    let (_, status) = page.split_once("# Status: \"configuration ").expect("what systemctl says");
    let written = blocks(&page, "yaml").into_iter().next().expect("a file to write");
    assert_eq!(&status[..12], load(&written).config.hash.short().to_string());
}
