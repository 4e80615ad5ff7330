// The colour theme: the system's, or what was chosen here. Runs before the page is drawn, so that it never flashes.
"use strict";

(() => {
  const KEY = "arbstr-theme";
  const CHOICES = ["auto", "light", "dark"];
  const system = matchMedia("(prefers-color-scheme: dark)");

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
    const isDark = choice === "auto" ? system.matches : choice === "dark";
    document.documentElement.setAttribute("data-theme", isDark ? "dark" : "light");
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
  system.addEventListener("change", () => {
    apply();
    announce();
  });
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
