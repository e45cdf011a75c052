// The controllers of this installation, as rows that each of them keeps fresh.
import type { Store } from "../store/store.ts";
import { gather } from "./gather.ts";

/** One that was not heard for longer is not offered to nodes and gateways. */
const freshMs = 10_000;
/** Rows of controllers that never came back. */
const forgottenAfter = "1 day";
/** Nodes that say hello together are one question to the database. */
const askedAtOnce = 1_000;

/** `host:port` each. */
export interface ControllerAddress {
  readonly api: string;
  readonly link: string;
}

export class Roster {
  readonly #store: Store;
  readonly #id: string;
  #own: ControllerAddress = { api: "", link: "" };
  #hasLeft = false;
  readonly #present = gather(async (asked: readonly undefined[]) => {
    const present = await this.#look();
    return asked.map(() => present);
  }, askedAtOnce);

  constructor(store: Store, id: string) {
    this.#store = store;
    this.#id = id;
  }

  get id(): string {
    return this.#id;
  }

  get own(): ControllerAddress {
    return this.#own;
  }

  /** From now on others know where this controller is. Addresses are whose controller listens there last. */
  async enter(own: ControllerAddress): Promise<void> {
    this.#own = own;
    await this.#store.change(async (em) => {
      await em.execute("delete from controller where link_address = ? or seen_time < now() - ?::interval", [own.link, forgottenAfter]);
      await em.execute("insert into controller (id, api_address, link_address) values (?, ?, ?)", [this.#id, own.api, own.link]);
    });
  }

  async seen(): Promise<void> {
    const { api, link } = this.#own;
    if (link === "" || this.#hasLeft) return;
    await this.#store.write(
      `insert into controller (id, api_address, link_address) values (?, ?, ?)
       on conflict (id) do update set seen_time = now()`,
      [this.#id, api, link],
    );
  }

  /** Others no longer send anybody here. It waits for no change that is under way here. */
  async leave(): Promise<void> {
    this.#hasLeft = true;
    await this.#store.write("delete from controller where id = ?", [this.#id]);
  }

  /** All that are there, this one first. */
  async present(): Promise<ControllerAddress[]> {
    return [...(await this.#present(undefined))];
  }

  async #look(): Promise<ControllerAddress[]> {
    const rows: { api_address: string; link_address: string }[] = await this.#store.read().execute(
      `select api_address, link_address from controller where seen_time > now() - ? * interval '1 millisecond' or id = ?
       order by id = ? desc, link_address`,
      [freshMs, this.#id, this.#id],
    );
    return rows.map(({ api_address, link_address }) => ({ api: api_address, link: link_address }));
  }
}
