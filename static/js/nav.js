// On a phone the links scroll sideways: the one of this page is to be seen.
document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
