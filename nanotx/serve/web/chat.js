"use strict";
// The chat: a conversation with each run. All get the same messages of the user, and each has answers of its own.
let chatting = false; // whether the page is in this mode

class Talk {
  constructor(name) {
    this.messages = []; // as the server takes them
    this.nodes = []; // what shows each of them
    this.box = make("div", "talk");
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "log");
    this.box.setAttribute("aria-label", "Conversation with " + name);
    this.box.hidden = true;
  }

  push(role, content) {
    const node = make("p", "said " + role, content);
    this.nodes.length ? this.nodes.at(-1).after(node) : this.box.append(node);
    this.messages.push({ role, content });
    this.nodes.push(node);
    this.toEnd();
  }

  pop() {
    this.messages.pop();
    return this.nodes.pop();
  }

  ask(text) {
    this.box.querySelectorAll(".unanswered").forEach((node) => node.remove());
    this.push("user", text);
  }

  // Begin an answer to the last message of the user, in place of one that is there.
  begin() {
    if (this.last() === "assistant") this.pop().remove();
    if (this.last() === "user") this.push("assistant", "");
  }

  add(text) {
    if (this.last() !== "assistant") return;
    this.messages.at(-1).content += text;
    this.nodes.at(-1).textContent += text;
    this.toEnd();
  }

  // A message that could not be answered is no part of the conversation.
  fail() {
    if (this.last() === "assistant" && this.messages.at(-1).content === "") this.pop().remove();
    if (this.last() === "user") this.pop().classList.add("unanswered");
  }

  forget() {
    this.messages = [];
    this.nodes = [];
    this.box.replaceChildren();
  }

  last() {
    return this.messages.at(-1)?.role;
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
  }
}

// What the server is asked with: each conversation up to the message that is to be answered.
function questions() {
  return panels.map((panel) => panel.talk.messages.slice(0, panel.talk.last() === "assistant" ? -1 : undefined));
}

function sendMessage() {
  const text = by("prompt").value;
  if (!text.trim()) return;
  by("prompt").value = "";
  controller?.abort();
  panels.forEach((panel) => panel.talk.ask(text));
  begin();
}

function newConversation() {
  controller?.abort();
  panels.forEach((panel) => {
    panel.talk.forget();
    panel.clear();
    panel.say("");
  });
  by("stop").disabled = true;
  by("status").textContent = "";
  by("prompt").focus();
}

function setMode(chat) {
  if (chatting !== chat) controller?.abort();
  chatting = chat;
  by("mode-text").setAttribute("aria-pressed", String(!chat));
  by("mode-chat").setAttribute("aria-pressed", String(chat));
  by("prompt-label").textContent = chat ? "Message" : "Prompt";
  by("prompt").placeholder = chat ? "Say something; Enter sends it" : "Type a beginning";
  by("again").textContent = chat ? "Another answer" : "Another seed";
  for (const id of ["send", "anew"]) by(id).hidden = !chat;
  panels.forEach((panel) => {
    panel.talk.box.hidden = !chat;
    panel.clear();
    panel.say("");
  });
  by("prompt").value = chat ? "" : page.prompt;
  by("status").textContent = "";
  begin();
}

// Offer the mode where every run has a chat template; begin in it, unless the page was given a text.
function offerChat() {
  if (!by("modes").hidden || !panels.every((panel) => panel.run.chats)) return;
  by("modes").hidden = false;
  if (!page.prompt && !by("prompt").value) setMode(true);
}

function startChat() {
  by("mode-text").addEventListener("click", () => { if (chatting) setMode(false); });
  by("mode-chat").addEventListener("click", () => { if (!chatting) setMode(true); });
  by("send").addEventListener("click", sendMessage);
  by("anew").addEventListener("click", newConversation);
  by("prompt").addEventListener("keydown", (event) => {
    if (!chatting || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    sendMessage();
  });
  offerChat();
}
