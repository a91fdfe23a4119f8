//! How the variables are written into a file of each kind, so that the file's reader gets exactly the value.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::variables::{Settings, Variable};

/// Which kind of client reads the output.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// `export` lines for sh, bash and zsh.
    Shell,
    /// A file for libraries that read `.env`, and for Docker Compose.
    Dotenv,
    /// `env` of a container in a pod.
    Kubernetes,
    /// /etc/gitlab/gitlab.rb of GitLab Omnibus.
    GitlabRb,
    /// `variables` of .gitlab-ci.yml.
    GitlabCi,
    /// A file for `docker run --env-file`; Podman reads it, too.
    Docker,
    /// A drop-in for a service of systemd.
    Systemd,
}

impl Format {
    /// The whole output.
    ///
    /// # Errors
    /// A value cannot be written in this format.
    pub(crate) fn print(self, settings: &Settings) -> Result<String, String> {
        let variables = match self {
            Format::GitlabRb => settings.proxies(),
            _ => settings.all(),
        };
        let mut text = String::new();
        for line in self.head().lines() {
            let _ = writeln!(text, "{}{line}", if line.is_empty() { "#" } else { "# " });
        }
        match self {
            Format::Shell => lines(&mut text, &variables, |value| Ok(shell(value)), "export ")?,
            Format::Dotenv => lines(&mut text, &variables, dotenv, "")?,
            Format::Docker => lines(&mut text, &variables, docker, "")?,
            Format::Systemd => {
                text += "[Service]\n";
                for Variable { name, value } in &variables {
                    let _ = writeln!(text, "Environment=\"{name}={}\"", systemd(value));
                }
            }
            Format::Kubernetes => {
                text += "env:\n";
                for Variable { name, value } in &variables {
                    let mut value = value.replace('$', "$$");
                    if matches!(*name, "no_proxy" | "NO_PROXY") {
                        // The API server's address, which the kubelet puts in: clients inside a pod ask for the address.
                        value += ",$(KUBERNETES_SERVICE_HOST)";
                    }
                    let _ = writeln!(text, "  - name: {name}\n    value: {}", yaml(&value));
                }
            }
            Format::GitlabCi => {
                text += "variables:\n";
                for Variable { name, value } in &variables {
                    // GitLab puts its variables in for `$NAME`, `${NAME}` and `%NAME%`.
                    if value.contains(['$', '%']) {
                        let _ = writeln!(text, "  {name}:\n    value: {}\n    expand: false", yaml(value));
                    } else {
                        let _ = writeln!(text, "  {name}: {}", yaml(value));
                    }
                }
            }
            Format::GitlabRb => gitlab_rb(&mut text, &variables),
        }
        Ok(text)
    }

    /// What the file is and where it goes.
    fn head(self) -> &'static str {
        match self {
            Format::Shell => "Read this with `.` or eval, or append it to ~/.profile.",
            Format::Dotenv => "A file of the name .env.",
            Format::Kubernetes => {
                "For each container of a pod: spec.template.spec.containers[]. A file that is named here must be mounted."
            }
            Format::GitlabCi => {
                "For the jobs in .gitlab-ci.yml. The runner itself, and the helper that clones, take theirs from config.toml:\n\
                 [[runners]] environment = [\"https_proxy=…\", …]."
            }
            Format::Docker => {
                "docker run --env-file FILE …. Builds, and containers without it, take proxies from ~/.docker/config.json; the\n\
                 daemon, which pulls images, from its own service: egressd env --for systemd."
            }
            Format::Systemd => {
                "/etc/systemd/system/NAME.service.d/egressd.conf, then systemctl daemon-reload && systemctl restart NAME."
            }
            Format::GitlabRb => {
                "For /etc/gitlab/gitlab.rb. A variable that is taken out again stays in /opt/gitlab/etc/*/env: delete its file there."
            }
        }
    }
}

fn lines(
    text: &mut String,
    variables: &[Variable],
    quoted: impl Fn(&str) -> Result<String, String>,
    before: &str,
) -> Result<(), String> {
    for Variable { name, value } in variables {
        let _ = writeln!(text, "{before}{name}={}", quoted(value)?);
    }
    Ok(())
}

/// Characters that neither a shell nor a reader of `.env` treats in a way of its own.
fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b':' | b',' | b'@'))
}

fn shell(value: &str) -> String {
    if is_plain(value) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

/// In single quotes nothing is put in, but python-dotenv reads `\\` and `\'` there, and puts variables in for `${`.
fn dotenv(value: &str) -> Result<String, String> {
    if is_plain(value) {
        return Ok(value.to_owned());
    }
    if value.contains("${") || value.contains(['\'', '\\']) {
        return Err(format!(
            "--for dotenv: readers of .env files do not agree on `{}`: use a path without quotes, backslashes and ${{",
            value.escape_debug()
        ));
    }
    Ok(format!("'{value}'"))
}

/// Docker takes the rest of the line as it is.
fn docker(value: &str) -> Result<String, String> {
    if value.trim() != value {
        return Err(format!("--for docker: `{value}` begins or ends with a space, which Podman removes"));
    }
    Ok(value.to_owned())
}

/// Inside double quotes: C escapes, and `%` begins a specifier. `$` means nothing in `Environment=`.
fn systemd(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%")
}

/// In double quotes, as JSON: every string of JSON is one of YAML.
fn yaml(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// In single quotes, where Ruby puts nothing in.
pub(crate) fn ruby(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

fn gitlab_rb(text: &mut String, variables: &[Variable]) {
    text.push_str("egressd = {\n");
    for Variable { name, value } in variables {
        let _ = writeln!(text, "  {} => {},", ruby(name), ruby(value));
    }
    text.push_str(
        "}\n\
         # Push and pull mirrors, imports by URL.\n\
         gitaly['env'] = egressd\n\
         # Puma and Sidekiq: the check of a mirror's URL, LFS, webhooks, integrations, Duo.\n\
         gitlab_rails['env'] = egressd\n\
         # Uploads to object storage, Duo.\n\
         gitlab_workhorse['env'] = egressd\n\
         # If they are used, and their object storage or API is reached through the proxy:\n\
         # registry['env'] = egressd\n\
         # gitlab_pages['env'] = egressd\n\
         # No part has any of this before: gitlab-ctl reconfigure && gitlab-ctl restart\n",
    );
}
