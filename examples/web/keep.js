// What this browser keeps: the identity and the messages, in IndexedDB.

const opened = new Promise((resolve, reject) => {
  const request = indexedDB.open("postrider", 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("identity");
    request.result.createObjectStore("messages", { keyPath: "id" });
  };
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

export const keepIdentity = (identity) => change("identity", (store) => store.put(identity, "me"));
export const identity = () => read("identity", (store) => store.get("me"));

// Under its envelope's id: what comes twice is kept once.
export const keepMessage = (message) => change("messages", (store) => store.put(message));
export const messages = () => read("messages", (store) => store.getAll());

// Done when it is on disk, as far as browsers promise that.
async function change(name, write) {
  const transaction = (await opened).transaction(name, "readwrite", { durability: "strict" });
  write(transaction.objectStore(name));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
}

async function read(name, ask) {
  const request = ask((await opened).transaction(name).objectStore(name));
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
