//! `logformat` and `access_log`.

use std::collections::HashMap;

use super::super::lexer::Line;
use super::Value;
use crate::commands::import::notes::{Kind, Notes, Place};

/// The formats that Squid has by name, as its documentation gives them.
const NAMED: [(&str, &str); 4] = [
    ("common", r#"%>a %[ui %[un [%tl] "%rm %ru HTTP/%rv" %>Hs %<st %Ss:%Sh"#),
    (
        "combined",
        r#"%>a %[ui %[un [%tl] "%rm %ru HTTP/%rv" %>Hs %<st "%{Referer}>h" "%{User-Agent}>h" %Ss:%Sh"#,
    ),
    ("referrer", "%ts.%03tu %>a %{Referer}>h %ru"),
    ("useragent", r#"%>a [%tl] "%{User-Agent}>h""#),
];

/// Output and format.
#[derive(Debug, Default)]
pub(in super::super) struct AccessLog {
    pub(in super::super) output: Option<Value>,
    pub(in super::super) format: Option<Value>,
}

/// The first log of records that has a place.
pub(super) fn read(lines: &[Line], notes: &mut Notes) -> AccessLog {
    let mut formats: HashMap<&str, (String, Place)> = HashMap::new();
    for line in lines.iter().filter(|line| line.name == "logformat") {
        if let Some(name) = line.word(0) {
            let format = line.rest.strip_prefix(name).unwrap_or_default().trim();
            let unquoted = format.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
            formats.insert(name, (unquoted.unwrap_or(format).to_owned(), line.place.clone()));
        }
    }
    let mut log = AccessLog::default();
    for line in lines.iter().filter(|line| matches!(line.name.as_str(), "access_log" | "cache_access_log")) {
        one(line, &formats, &mut log, notes);
    }
    log
}

fn one(line: &Line, formats: &HashMap<&str, (String, Place)>, log: &mut AccessLog, notes: &mut Notes) {
    let Some(to) = line.word(0) else { return };
    if to == "none" {
        let text = if line.words.len() == 1 {
            "there is always an access log; it goes to stdout"
        } else {
            "load balancer probes that send nothing are counted and never logged; everything else is logged"
        };
        return notes.tell(&line.place, if line.words.len() == 1 { Kind::Differs } else { Kind::Lost }, text);
    }
    if log.output.is_some() {
        return notes.tell(
            &line.place,
            Kind::Lost,
            format!("{}: there is one access log, and it is another's", line.shown()),
        );
    }
    let output = match to.split_once(':') {
        Some(("stdio" | "daemon", path)) => path,
        None => to,
        Some(_) => {
            notes.tell(
                &line.place,
                Kind::Differs,
                format!("{}: the access log goes to stdout or a file, this one to stdout", line.shown()),
            );
            "stdout"
        }
    };
    let output = match output {
        "/dev/stdout" | "/proc/self/fd/1" | "/dev/fd/1" => "stdout",
        "/dev/stderr" | "/proc/self/fd/2" | "/dev/fd/2" => {
            notes.tell(
                &line.place,
                Kind::Differs,
                "the access log goes to stdout: stderr carries the diagnostics",
            );
            "stdout"
        }
        path => path,
    };
    log.output = Some(Value { place: line.place.clone(), text: output.to_owned() });
    let options: Vec<&str> = line.words.iter().skip(1).map(|word| word.text.as_str()).collect();
    let named = options.iter().find_map(|option| option.strip_prefix("logformat=")).or_else(|| {
        options.iter().copied().find(|option| {
            *option == "squid" || NAMED.iter().any(|(name, _)| name == option) || formats.contains_key(option)
        })
    });
    let conditions: Vec<&str> =
        options.iter().copied().filter(|option| !option.contains('=') && Some(*option) != named).collect();
    if !conditions.is_empty() {
        notes.tell(
            &line.place,
            Kind::Differs,
            format!("every request is logged, not only those of `{}`", conditions.join(" ")),
        );
    }
    let format = match named.unwrap_or("squid") {
        "squid" => "squid".to_owned(),
        name => match (formats.get(name), NAMED.iter().find(|(known, _)| *known == name)) {
            (Some((format, _)), _) => format.clone(),
            (None, Some((_, format))) => (*format).to_owned(),
            (None, None) => {
                notes.tell(
                    &line.place,
                    Kind::Differs,
                    format!("no `logformat` is called `{name}`: the log is JSON"),
                );
                return;
            }
        },
    };
    log.format = Some(Value { place: line.place.clone(), text: format });
}
