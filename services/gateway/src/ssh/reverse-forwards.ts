// `ssh -R`: the VM's SSH server listens, and what comes goes back to the client.
import { splice, type Log } from "@pitwall/runtime";
import type { Client, Connection } from "ssh2";
import type { Account } from "./limits.ts";
import type { Login } from "./target.ts";
import type { VmConnection } from "./vm-connection.ts";
import { watchChannel } from "./windows.ts";

export interface ReverseForwardParts {
  readonly login: Pick<Login, "permits">;
  readonly vm: VmConnection;
  readonly account: Account;
  readonly log: Log;
}

export function openReverseForwards(client: Connection, { login, vm, account, log }: ReverseForwardParts): void {
  const joined = new WeakSet<Client>();
  client.on("request", (accept, reject, name, info) => {
    if (!login.permits.forwards || (name !== "tcpip-forward" && name !== "cancel-tcpip-forward") || !("bindPort" in info))
      return void reject?.();
    const { bindAddr, bindPort } = info;
    vm.enter().then(
      ({ client: inner }) => {
        if (!joined.has(inner)) {
          joined.add(inner);
          pass(inner, client, account, log);
        }
        if (name === "tcpip-forward") inner.forwardIn(bindAddr, bindPort, (error, port) => (error ? reject?.() : accept?.(port)));
        else inner.unforwardIn(bindAddr, bindPort, (error) => (error ? reject?.() : accept?.()));
      },
      (error: unknown) => {
        log.debug("a forward was refused", { error });
        reject?.();
      },
    );
  });
}

function pass(inner: Client, client: Connection, account: Account, log: Log): void {
  inner.on("tcp connection", ({ destIP, destPort, srcIP, srcPort }, accept, reject) => {
    if (!account.openForward()) return void reject();
    client.forwardOut(destIP, destPort, srcIP, srcPort, (error, outer) => {
      if (error) {
        log.debug("a client did not take a connection", { error });
        account.closedForward();
        return void reject();
      }
      outer.once("close", () => account.closedForward());
      account.watch(outer);
      const channel = accept();
      watchChannel(channel, { overran: () => inner.destroy() });
      void splice(channel, outer);
    });
  });
}
