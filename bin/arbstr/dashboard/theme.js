// The colour theme: the system's, or what was chosen here. Runs before the page is drawn, so that it never flashes.
"use strict";

(() => {
  const KEY = "arbstr-theme";
  const CHOICES = ["auto", "light", "dark"];
  const root = document.documentElement;

  const stored = () => {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : "auto";
    } catch {
      return "auto"; // storage is switched off
    }
  };

  let choice = stored();

  const apply = () => {
    if (choice === "auto") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", choice);
  };

  const label = (button) => {
    button.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[choice];
    button.setAttribute("aria-label", `Theme: ${choice}. Change it`);
    button.title = `Theme: ${choice}`;
  };

  const announce = () => window.dispatchEvent(new Event("arbstr-theme"));

  const next = () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // It holds until the page is closed.
    }
  };

  apply();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", announce);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    label(button);
    button.addEventListener("click", () => {
      next();
      apply();
      label(button);
      announce();
    });
  });
})();
