// What the database sees of each run: triggers that write down every write of a VM's row, and every loss of a node.

export interface TriggerOptions {
  /** Where the tables are; it exists. */
  readonly schema: string;
  /** SQL: milliseconds since the begin of the run. */
  readonly nowMs: string;
  /** SQL: that begin, in milliseconds since 1970. */
  readonly originMs: string;
}

/** Tables `vm_write` and `loss` (of nodes that were judged so; what an administrator says of one is no judgement). Writes are in the order in which the rows' locks were had: the trigger's name makes it the last. */
export function historyTriggers({ schema, nowMs, originMs }: TriggerOptions): string {
  return `
create table ${schema}.vm_write (seq bigserial primary key, at_ms bigint not null, op text not null, vm uuid not null, node uuid not null,
  epoch bigint not null, generation bigint not null, observed bigint not null, desired int not null, phase int not null,
  cpu_millis bigint not null, mem_bytes bigint not null, request text not null, name text not null, is_held boolean not null,
  reason text not null, said_by text not null, session text not null);
create function ${schema}.see_vm() returns trigger language plpgsql as $$
  declare it vm; begin
    if tg_op = 'DELETE' then it := old; else it := new; end if;
    insert into ${schema}.vm_write (at_ms, op, vm, node, epoch, generation, observed, desired, phase, cpu_millis, mem_bytes, request,
        name, is_held, reason, said_by, session)
      values (${nowMs}, tg_op, it.id, it.node_id, it.epoch, it.generation, it.observed_generation, it.desired, it.phase, it.cpu_millis,
        it.mem_bytes, coalesce(it.spec->'env'->>'REQUEST', ''), it.name, it.delete_time is not null, it.reason,
        coalesce((select word from unnest(string_to_array(current_setting('pitwall.session', true), ' ')) as word
            where word like it.node_id || '/%' limit 1), current_setting('pitwall.session', true), ''),
        coalesce((select node_id || '/' || s.epoch from node_session s where node_id = it.node_id), ''));
    return null;
  end $$;
create trigger z_see after insert or update or delete on vm for each row execute function ${schema}.see_vm();
create table ${schema}.loss (node uuid not null, lost_ms double precision not null, renewed_ms double precision not null);
create function ${schema}.see_loss() returns trigger language plpgsql as $$
  begin
    insert into ${schema}.loss values (new.node_id, extract(epoch from new.lost_time) * 1000 - ${originMs},
      extract(epoch from new.renew_time) * 1000 - ${originMs});
    return null;
  end $$;
create trigger z_see_loss after update on node_session for each row
  when (old.lost_time is null and new.lost_time is not null and new.end_reason <> 'fenced') execute function ${schema}.see_loss();`;
}
