// Structured logs: a constant message and fields, one JSON line each, on stderr.
import { pino } from "pino";

type Fields = Readonly<Record<string, unknown>>;

/** A constant message first, then what varies. Tokens, keys and guest environments are never fields. */
export interface Log {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** A log whose lines all carry these fields. */
  child(fields: Fields): Log;
}

const levels = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof levels)[number];

/** The level that PITWALL_LOG_LEVEL names; `info` for what is no level, which the configuration refuses in its own words. */
export function logLevel(text: string | undefined): LogLevel {
  return levels.find((level) => level === text) ?? "info";
}

/** Makes the log of one process. `fd` is where lines go; default 2, because stdout is for data. */
export function openLog(service: string, level: LogLevel = "info", fd = 2): Log {
  const root = pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.errWithCause },
      redact: { paths: ["token", "*.token", "authorization", "*.authorization", "password", "*.password"], censor: "[redacted]" },
    },
    pino.destination({ fd, sync: true }),
  );
  return wrap(root);
}

/** A log that drops everything, for tests of pure parts. */
export const silentLog: Log = wrap(pino({ level: "silent" }));

function wrap(target: pino.Logger): Log {
  return {
    debug: (message, fields = {}) => target.debug(fields, message),
    info: (message, fields = {}) => target.info(fields, message),
    warn: (message, fields = {}) => target.warn(fields, message),
    error: (message, fields = {}) => target.error(fields, message),
    child: (fields) => wrap(target.child(fields)),
  };
}
