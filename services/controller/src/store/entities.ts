// The tables, as MikroORM sees them. `migrations.ts` makes them.
import { defineEntity, p, type InferEntity } from "@mikro-orm/core";
import { ApiTokenEntity, RegistryCredentialEntity } from "./access-entities.ts";

/** A VM: what is desired and what was observed, apart. JSON columns hold what the generated `toJSON` writes. */
export const VmEntity = defineEntity({
  name: "Vm",
  tableName: "vm",
  properties: {
    id: p.uuid().primary(),
    name: p.text(),
    projectId: p.uuid(),
    /** Subject of whoever created it. */
    owner: p.text(),
    spec: p.json<unknown>(),
    imageDigest: p.text(),
    desired: p.integer(),
    generation: p.bigint(),
    observedGeneration: p.bigint(),
    phase: p.integer(),
    reason: p.text(),
    message: p.text(),
    nodeId: p.uuid(),
    epoch: p.bigint(),
    sshHostKey: p.text(),
    /** It is another one than this placement began with. */
    sshHostKeyChanged: p.boolean(),
    serviceExit: p.json<unknown>().nullable(),
    /** Who asked last that it end. */
    asked: p.json<unknown>().nullable(),
    restartCount: p.integer(),
    health: p.integer(),
    timings: p.json<unknown>(),
    createTime: p.datetime(),
    updateTime: p.datetime(),
    /** Grows with every change of any VM; the order of the change feed. */
    revision: p.bigint(),
    /** What it takes of its node, kept beside the spec so that the database can add it up. */
    cpuMillis: p.integer(),
    memBytes: p.bigint(),
    diskBytes: p.bigint(),
    deleteProtection: p.boolean(),
    expireTime: p.datetime().nullable(),
    /** Set while the VM is deleted and can be brought back, until `purgeTime`. */
    deleteTime: p.datetime().nullable(),
    purgeTime: p.datetime().nullable(),
    /** The generation of the latest restart that was asked for. */
    restartGeneration: p.bigint(),
    /** It is stopped only in order to be started on another node. */
    moving: p.boolean(),
    /** Until its node has said that it is of this generation, it need not know that the VM may be rescheduled; 0: it does, or runs nothing of it. */
    policyGeneration: p.bigint(),
    /** What it is called below the gateways' domain, besides its id. */
    host: p.text().nullable(),
    httpPort: p.integer(),
    publicPorts: p.json<readonly number[]>(),
    /** On its node's network: given by the database with each placement, and never written by anybody else than to give it up. */
    address: p.text().nullable(),
    address6: p.text().nullable(),
  },
});
export type VmRow = InferEntity<typeof VmEntity>;

export const NodeEntity = defineEntity({
  name: "Node",
  tableName: "node",
  properties: {
    id: p.uuid().primary(),
    name: p.text(),
    cpuMillis: p.bigint(),
    memBytes: p.bigint(),
    diskBytes: p.bigint(),
    drivers: p.json<unknown[]>(),
    labels: p.json<Record<string, string>>(),
    /** What its join token gave it; null: none, and its hello says them. */
    boundLabels: p.json<Readonly<Record<string, string>>>().nullable(),
    agentVersion: p.text(),
    createTime: p.datetime(),
    cordoned: p.boolean(),
    draining: p.boolean(),
    /** From then on its certificate is refused. */
    revokeTime: p.datetime().nullable(),
  },
});
export type NodeRow = InferEntity<typeof NodeEntity>;

export const ProjectEntity = defineEntity({
  name: "Project",
  tableName: "project",
  properties: {
    id: p.uuid().primary(),
    name: p.text(),
    /** Subject of the user whose own project it is. */
    personalOf: p.text().nullable(),
    quotaVms: p.integer(),
    quotaCpuMillis: p.bigint(),
    quotaMemBytes: p.bigint(),
    quotaDiskBytes: p.bigint(),
    quotaAddresses: p.integer(),
    undeleteWindowMs: p.bigint(),
    recordSessions: p.boolean(),
    memberLogins: p.json<readonly string[]>(),
    ownerLogins: p.json<readonly string[]>(),
    createTime: p.datetime(),
    /** Grows with every change: its etag. */
    version: p.bigint(),
  },
});
export type ProjectRow = InferEntity<typeof ProjectEntity>;

export const ProjectMemberEntity = defineEntity({
  name: "ProjectMember",
  tableName: "project_member",
  properties: { projectId: p.uuid().primary(), subject: p.text().primary(), role: p.text(), createTime: p.datetime() },
});
export type ProjectMemberRow = InferEntity<typeof ProjectMemberEntity>;

/** Whoever has a certificate: nodes and gateways. */
export const MemberEntity = defineEntity({
  name: "Member",
  tableName: "member",
  properties: { id: p.uuid().primary(), role: p.text(), name: p.text(), createTime: p.datetime(), certificateExpireTime: p.datetime() },
});

/** Secrets by which hosts join, by their digest. */
export const JoinTokenEntity = defineEntity({
  name: "JoinToken",
  tableName: "join_token",
  properties: {
    /** Hex SHA-256. */
    digest: p.text().primary(),
    role: p.text(),
    /** Empty: any. */
    name: p.text(),
    expireTime: p.datetime(),
    /** Of the latest use. */
    usedTime: p.datetime().nullable(),
    usesLeft: p.integer(),
    /** Of the nodes that it lets in; null: they say theirs themselves. */
    labels: p.json<Readonly<Record<string, string>>>().nullable(),
  },
});

export const SshKeyEntity = defineEntity({
  name: "SshKey",
  tableName: "ssh_key",
  properties: {
    /** `SHA256:…` */
    fingerprint: p.text().primary(),
    owner: p.text(),
    publicKey: p.text(),
    createTime: p.datetime(),
  },
});

export const entities = [
  VmEntity,
  NodeEntity,
  ProjectEntity,
  ProjectMemberEntity,
  MemberEntity,
  JoinTokenEntity,
  SshKeyEntity,
  ApiTokenEntity,
  RegistryCredentialEntity,
];
