//! `logformat` and `access_log`.

use std::collections::HashMap;

use super::super::lexer::Line;
use crate::commands::import::draft::{Draft, Setting, SettingValue, scalar};
use crate::commands::import::notes::{NoteKind, Notes, SourceLine};

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

/// The first `access_log` line that names an output.
pub(super) fn read(lines: &[Line], draft: &mut Draft, notes: &mut Notes) {
    let mut formats: HashMap<&str, (String, SourceLine)> = HashMap::new();
    for line in lines.iter().filter(|line| line.name == "logformat") {
        if let Some(name) = line.word(0) {
            let format = line.rest.strip_prefix(name).unwrap_or_default().trim();
            let unquoted = format.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
            formats.insert(name, (unquoted.unwrap_or(format).to_owned(), line.place.clone()));
        }
    }
    for line in lines.iter().filter(|line| matches!(line.name.as_str(), "access_log" | "cache_access_log")) {
        one(line, &formats, draft, notes);
    }
}

fn one(line: &Line, formats: &HashMap<&str, (String, SourceLine)>, draft: &mut Draft, notes: &mut Notes) {
    let Some(to) = line.word(0) else { return };
    if to == "none" {
        let text = if line.words.len() == 1 {
            "there is always an access log; it goes to stdout"
        } else {
            "load balancer probes that send nothing are counted and never logged; everything else is logged"
        };
        return notes.tell(
            &line.place,
            if line.words.len() == 1 { NoteKind::Differs } else { NoteKind::Lost },
            text,
        );
    }
    if draft.get(Setting::LogOutput).is_some() {
        return notes.tell(
            &line.place,
            NoteKind::Lost,
            format!("{}: there is one access log, and an earlier line sets it", line.shown()),
        );
    }
    let output = match to.split_once(':') {
        Some(("stdio" | "daemon", path)) => path,
        None => to,
        Some(_) => {
            notes.tell(
                &line.place,
                NoteKind::Differs,
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
                NoteKind::Differs,
                "the access log goes to stdout: stderr carries the diagnostics",
            );
            "stdout"
        }
        "stdout" => "stdout",
        path => {
            let text = format!(
                "`{}` is the log that Squid writes, and two programs must not write one file: the access log goes to stdout; name a file of its own under `access_log.output`",
                path.chars().take(200).collect::<String>()
            );
            notes.tell(&line.place, NoteKind::Differs, text);
            "stdout"
        }
    };
    draft.set(Setting::LogOutput, Some(SettingValue { place: line.place.clone(), text: output.to_owned() }));
    let options: Vec<&str> = line.from(1).collect();
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
            NoteKind::Differs,
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
                    NoteKind::Differs,
                    format!("no `logformat` is called `{name}`: the log is JSON"),
                );
                return;
            }
        },
    };
    draft.set(Setting::LogFormat, Some(SettingValue { place: line.place.clone(), text: format }));
}

/// Leaves the format out where the policies are in report mode.
pub(super) fn no_format_in_report_mode(draft: &mut Draft, notes: &mut Notes) {
    if !draft.report {
        return;
    }
    if let Some(format) = draft.take(Setting::LogFormat) {
        let text = format!(
            "the log is JSON for now: Squid's formats cannot say what passed by report mode alone; later write `access_log.format: {}`",
            scalar(&format.text)
        );
        notes.tell(&format.place, NoteKind::Differs, text);
    }
}
