// Forms: what belongs to a choice that is not made is out of the way.

for (const part of document.querySelectorAll("[data-shown-for]")) {
  const [name, value] = part.dataset.shownFor.split("=");
  const show = () => { part.hidden = new FormData(part.closest("form")).get(name) !== value; };
  part.closest("form").addEventListener("change", show);
  show();
}

// A long list of services is narrowed to those whose names hold what is typed.
for (const input of document.querySelectorAll("[data-narrow]")) {
  input.hidden = false;
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const choice of document.getElementById(input.dataset.narrow).children) {
      const { checked, value } = choice.querySelector("input");
      choice.hidden = !checked && !value.includes(wanted);
    }
  });
}
