// Copying a rule, and the word that it was done.

const copying = (line, place, warnings, what) => make("button",
  { type: "button", class: "copy", "aria-label": `Copy the ${what} ${shown(line)}`, on: { click: () => copy(line, place, warnings) } }, `Copy ${what}`);

// Without https a browser does not give pages its clipboard: then a selection is copied.
async function copy(line, place, warnings) {
  let done = false;
  try {
    await navigator.clipboard.writeText(line);
    done = true;
  } catch {
    const field = make("textarea", { readonly: true, "aria-hidden": "true", class: "copied" });
    field.value = line;
    const focused = document.activeElement;
    document.body.append(field);
    field.select();
    done = document.execCommand("copy");
    field.remove();
    focused?.focus({ preventScroll: true });
  }
  const warning = warnings.length ? ` Warning: ${warnings.join("; ")}.` : "";
  toast(done ? `Copied: ${line} Paste it ${place}.${warning}` : `Could not copy. The line is: ${line}`);
}

let hiding = 0;

function toast(text) {
  tell(byId("toast"), shown(text));
  byId("toast").classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => byId("toast").classList.remove("shown"), 8000);
}
