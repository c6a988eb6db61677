"use strict";
// Light, dark or as the system has it. Runs in the head, so that the page is never drawn in the wrong one.
(() => {
  const NAME = "stage-bench-theme";
  const WORDS = { auto: "as the system", light: "light", dark: "dark" };
  const root = document.documentElement;
  root.classList.add("scripted");

  function stored() {
    try {
      return localStorage.getItem(NAME);
    } catch {
      return null; // a browser may keep nothing of pages that are files
    }
  }

  function show(theme) {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
  }

  let theme = Object.hasOwn(WORDS, stored()) ? stored() : "auto";
  show(theme);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = button.querySelector("span");
    label.textContent = WORDS[theme];
    button.addEventListener("click", () => {
      const names = Object.keys(WORDS);
      theme = names[(names.indexOf(theme) + 1) % names.length];
      show(theme);
      label.textContent = WORDS[theme];
      try {
        localStorage.setItem(NAME, theme);
      } catch {
        // shown all the same, for as long as the page is open
      }
    });
  });
})();
