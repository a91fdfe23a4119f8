"""Runs lines, as the container runtime writes them on Fargate, through the log router's configuration.

    log_router.py AWS-LOGGING.yaml

The lines are in CRI's format, `TIME STREAM TAGS TEXT`: records as docs/log.md and README.md show them, diagnostics, records with what
a client can put into them, lines that the runtime split. Each must come out as the record's own fields, or as its text.

There is no package of Fluent Bit that the tests could install. So this follows its documentation: the filter `parser` with its
options, and the parsers `regex` and `json`. The regular expression itself runs in Ruby, whose engine, Onigmo, is Fluent Bit's. With
FLUENT_BIT=PROGRAM, the same lines go through that Fluent Bit, too, as a file that it reads as it does on Fargate.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import yaml

# containerd's max_container_log_line_size.
SPLIT = 16384
STAMP = "2026-11-30T13:54:39.123456789Z"
# The name of the file is the tag: kube.var.log.containers.NAME
LOG_FILE = "egressd-6d5f7c9b8-x2x7k_egressd_egressd-0123456789abcdef.log"
# The time of a record, by which CloudWatch sorts. It is no field of a record, so it has a name here that none has.
DATE = "@date"


def moment(text):
    """As Fluent Bit writes it: UTC, to the microsecond."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def cri(stream, text):
    """The lines that the runtime makes of one line of output: all but the last have the tag P."""
    parts = [text[at : at + SPLIT] for at in range(0, len(text), SPLIT)] or [""]
    tags = ["P"] * (len(parts) - 1) + ["F"]
    return [f"{STAMP} {stream} {tag} {part}" for tag, part in zip(tags, parts, strict=True)]


# --- the configuration --------------------------------------------------------------------------------------------


def sections(text):
    """Each section of a file in Fluent Bit's classic format, as a list of pairs; keys in lower case."""
    found = []
    for line in text.splitlines():
        if re.fullmatch(r"\s*\[\w+\]\s*", line):
            found.append([])
        elif line.strip():
            key, value = line.split(None, 1)
            found[-1].append((key.lower(), value.strip()))
    return [dict(section) for section in found]


def is_on(section, key):
    return section.get(key, "off").lower() in ("on", "true")


def matches(pattern, tag):
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), tag) is not None


def regex(pattern, texts):
    """The named groups of each text, or None where it does not match."""
    program = (
        "require 'json'; ask = JSON.parse($stdin.read); re = Regexp.new(ask['pattern']);"
        "puts JSON.dump(ask['texts'].map { |text| found = re.match(text); found && found.named_captures })"
    )
    ran = subprocess.run(
        ["ruby", "-e", program], input=json.dumps({"pattern": pattern, "texts": texts}), capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout)


def an_object(text):
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def parse(parser, texts):
    """What the parser makes of each text: its fields, with the time as DATE and, with Time_Keep, as it was; None where it cannot read it."""
    if parser["format"].lower() == "regex":
        found = regex(parser["regex"], texts)
        # Groups that are empty leave no field.
        found = [groups and {name: value for name, value in groups.items() if value} for groups in found]
    else:
        assert parser["format"].lower() == "json", parser
        found = [an_object(text) for text in texts]
    key = parser["time_key"]
    # Both formats of time here are ISO 8601's.
    assert parser["time_format"] in ("%Y-%m-%dT%H:%M:%S.%L%z", "%Y-%m-%dT%H:%M:%S.%LZ"), parser
    for fields in found:
        if fields and key in fields:
            fields[DATE] = moment(fields[key])
            if not is_on(parser, "time_keep"):
                del fields[key]
    return found


def route(config, lines):
    """The record that each line has become when all filters are through."""
    parsers = {parser["name"]: parser for parser in sections(config["parsers.conf"])}
    records = [{"log": line} for line in lines]
    for each in sections(config["filters.conf"]):
        assert each["name"] == "parser", f"{each['name']}: this test does not know the filter"
        if not matches(each["match"], "kube.var.log.containers." + LOG_FILE):
            continue
        key = each["key_name"]
        having = [record for record in records if isinstance(record.get(key), str)]
        for record, fields in zip(having, parse(parsers[each["parser"]], [record[key] for record in having]), strict=True):
            if fields is None:
                continue
            others = dict(record) if is_on(each, "reserve_data") else {}
            if not is_on(each, "preserve_key"):
                others.pop(key, None)
            record.clear()
            record.update(others | fields)
    return records


def by_fluent_bit(program, config, lines):
    """The same from a Fluent Bit, whose input is the one that Fargate has."""
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        logs = directory / "var/log/containers"
        logs.mkdir(parents=True)
        (logs / LOG_FILE).write_text("".join(line + "\n" for line in lines))
        (directory / "parsers.conf").write_text(config["parsers.conf"])
        # An absolute path would be part of the tag.
        (directory / "fluent-bit.conf").write_text(
            "[SERVICE]\n    Flush 1\n    Grace 1\n    Log_Level warn\n    Parsers_File parsers.conf\n"
            "[INPUT]\n    Name tail\n    Buffer_Max_Size 66KB\n    Mem_Buf_Limit 45MB\n    Path var/log/containers/*.log\n"
            "    Read_From_Head On\n    Refresh_Interval 10\n    Rotate_Wait 30\n    Skip_Long_Lines On\n    Tag kube.*\n"
            + config["filters.conf"]
            + f"\n[OUTPUT]\n    Name stdout\n    Match *\n    Format json_lines\n    json_date_key {DATE}\n    json_date_format iso8601\n"
        )
        with (directory / "out").open("w") as out, (directory / "err").open("w") as err:
            running = subprocess.Popen([program, "-c", "fluent-bit.conf"], cwd=directory, stdout=out, stderr=err)
            deadline = time.monotonic() + 60
            try:
                while True:
                    # Fluent Bit 1.9 writes a character outside the BMP in two halves, each as if it was a character.
                    halves = (directory / "out").read_bytes().decode(errors="surrogatepass")
                    whole = halves.encode("utf-16", "surrogatepass").decode("utf-16")
                    written = [line for line in whole.split("\n")[:-1] if line.startswith("{")]
                    if len(written) >= len(lines):
                        break
                    assert running.poll() is None and time.monotonic() < deadline, (len(written), (directory / "err").read_text())
                    time.sleep(0.2)
            finally:
                running.terminate()
                running.wait(30)
        said = (directory / "err").read_text().splitlines()
        complaints = [line for line in said if ("[ warn]" in line or "[error]" in line) and "service will shutdown" not in line]
        assert not complaints, complaints
        return [json.loads(line) for line in written]


# --- the lines ----------------------------------------------------------------------------------------------------


def shown_records():
    """The records that the documentation shows; tests/docs.rs holds them to the program."""
    for page in [Path("README.md"), *sorted(Path("docs").glob("*.md"))]:
        for block in re.findall(r"^```json\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            yield from (line for line in block.splitlines() if '"event"' in line)


def hostile(record, seed):
    """The record with what a client can write into it."""
    chosen = random.Random(seed)
    pieces = [f"{STAMP} stdout F ", '{"event":"allow"}', '"', "\\", "\\u0000", " F ", "stderr P", "}", "{", "$1", "%L", "a" * 400]
    pieces += ["\u2026", "\U0001f600", "\x7f", "\x1b", "\t"]
    fields = json.loads(record)
    for name in ("target", "user_agent", "sni", "identity"):
        fields[name] = "".join(chosen.choices(pieces, k=chosen.randrange(8)))[:600]
    # As egressd writes it: printable ASCII, and shorter than what the runtime splits.
    line = json.dumps(fields, separators=(",", ":"))
    assert len(line) < SPLIT
    return line


def cases():
    """Pairs of a line and the record that it must become."""
    records = list(shown_records())
    assert len(records) >= 2, "the documentation shows no records"
    for text in records + [hostile(records[seed % len(records)], seed) for seed in range(500)]:
        for stream in ("stdout", "stderr"):
            for line in cri(stream, text):
                yield line, expected(text, stream)
    diagnostics = '{"timestamp":"2026-11-30T13:59:10.449679Z","level":"INFO","message":"admin on 0.0.0.0:9180","target":"egressd::commands::run"}'
    yield cri("stderr", diagnostics)[0], expected(diagnostics, "stderr")
    # No JSON: the text stays.
    for text in ("thread 'main' panicked at src/main.rs:1:2:", "{", "{} {}", "stdout F {}", "[1]"):
        yield cri("stderr", text)[0], {DATE: moment(STAMP), "stream": "stderr", "logtag": "F", "log": text}
    # A line of another program that the runtime split: no record of egressd is so long.
    long = json.dumps({"text": "b" * (2 * SPLIT)})
    for line in cri("stdout", long):
        tag, part = line.split(" ", 3)[2:]
        yield line, {DATE: moment(STAMP), "stream": "stdout", "logtag": tag, "log": part}
    # The tags may be several, and the time may have a zone.
    yield f"{STAMP} stdout F:later {records[0]}", expected(records[0], "stdout") | {"logtag": "F:later"}
    zoned = STAMP.replace("Z", "+09:00")
    yield f"{zoned} stdout F {records[0]}", expected(records[0], "stdout")
    yield f"{zoned} stderr F text", {DATE: moment(zoned), "stream": "stderr", "logtag": "F", "log": "text"}
    # Another parser of the cluster took the runtime's part off before.
    yield records[0], json.loads(records[0]) | {DATE: moment(json.loads(records[0])["time"])}


def expected(text, stream):
    """What a line of JSON must become: its own fields, and its own time if it has one."""
    fields = json.loads(text)
    return fields | {DATE: moment(fields.get("time", STAMP)), "stream": stream, "logtag": "F"}


def main(manifest):
    config = next(
        thing["data"] for thing in yaml.safe_load_all(Path(manifest).read_text()) if thing and thing["metadata"]["name"] == "aws-logging"
    )
    lines, wanted = zip(*cases(), strict=True)
    ways = {"by the documentation": route(config, list(lines))}
    if program := os.environ.get("FLUENT_BIT"):
        ways[program] = by_fluent_bit(program, config, lines)
    for way, records in ways.items():
        assert len(records) == len(lines), f"{way}: {len(lines)} lines have become {len(records)} records"
        for line, record, want in zip(lines, records, wanted, strict=True):
            assert record == want, f"{way}:\n{line}\nhas become\n{json.dumps(record)}\nand not\n{json.dumps(want)}"
        print(f"{manifest}: {len(lines)} lines {way}")


if __name__ == "__main__":
    main(*sys.argv[1:])
