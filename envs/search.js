// Search in the documents, with the index that `on_post_build` of site.py wrote as a script: no server, no worker.
(() => {
  const box = document.getElementById("mkdocs-search-query"), shown = document.getElementById("mkdocs-search-results");
  const sections = new Map(window.searchIndex.docs.map((one) => [one.location, one]));
  let index = null;  // built at the first word: most readers do not search

  function found(query) {
    index ||= lunr(function () {
      this.ref("location");
      this.field("title", { boost: 10 });
      this.field("text");
      window.searchIndex.docs.forEach((one) => this.add(one));
    });
    const words = lunr.tokenizer(query).map(String).filter((word) => /[\p{L}\p{N}]/u.test(word));
    return index.query((asked) => words.forEach((word) => {
      asked.term(lunr.stemmer(new lunr.Token(word)).toString(), { boost: 10 });
      asked.term(word, { wildcard: lunr.Query.wildcard.TRAILING });  // what is not typed to its end
    })).slice(0, 30).map((one) => sections.get(one.ref));
  }

  function excerpt(text, query) {
    const at = Math.max(0, text.toLowerCase().indexOf(query.toLowerCase().trim().split(/\s+/)[0]) - 60);
    return `${at ? "... " : ""}${text.slice(at, at + 180)}${at + 180 < text.length ? " ..." : ""}`;
  }

  function element(name, text, more = {}) {
    return Object.assign(document.createElement(name), { textContent: text }, more);
  }

  function show() {
    const asked = box.value.trim().length > 1, results = asked ? found(box.value) : [];
    shown.replaceChildren(...results.map((one) => {
      const result = element("article", "");
      const link = element("a", one.page === one.title ? one.title : `${one.page}: ${one.title}`);
      link.href = `${base_url}/${one.location}`;
      result.append(link, element("p", excerpt(one.text, box.value)));
      return result;
    }));
    if (asked && !results.length) shown.append(element("p", "Nothing is found."));
  }

  function step(event) {
    const links = [...shown.querySelectorAll("a")], at = links.indexOf(document.activeElement);
    if (event.key === "Enter" && event.target === box) links[0]?.click();
    else if (event.key === "ArrowDown") links[Math.min(at + 1, links.length - 1)]?.focus();
    else if (event.key === "ArrowUp") (links[at - 1] ?? box).focus();
    else return;
    event.preventDefault();
  }

  shown.setAttribute("aria-live", "polite");
  box.addEventListener("input", show);
  document.getElementById("mkdocs_search_modal").addEventListener("keydown", step);
  box.form?.addEventListener("submit", (event) => event.preventDefault());
})();
