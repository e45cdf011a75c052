import type { ConnectResponse, ImageAnswer, ImageCommand } from "@pitwall/proto/pitwall/v1/link.ts";
import { Outbox } from "@pitwall/runtime";
import { expect, test } from "vitest";
import { Questions } from "./questions.ts";

type ImageQuestions = Questions<NonNullable<ImageCommand["command"]>, ImageAnswer>;
const never = new AbortController().signal;
const command = { $case: "inventory", value: {} } as const;
const answerTo = (requestId: string): ImageAnswer => ({ requestId, reason: "", message: "", inventory: { images: [] }, freed: undefined });

function open(): { outbox: Outbox<ConnectResponse>; questions: ImageQuestions; asked: () => Promise<string> } {
  const outbox = new Outbox<ConnectResponse>(10);
  const messages = outbox[Symbol.asyncIterator]();
  const asked = async (): Promise<string> => {
    const { value } = await messages.next();
    return value?.message?.$case === "imageCommand" ? value.message.value.requestId : "";
  };
  const questions: ImageQuestions = new Questions((requestId, sent) =>
    outbox.push({ message: { $case: "imageCommand", value: { requestId, command: sent } } }),
  );
  return { outbox, questions, asked };
}

test("each answer goes to who asked, in any order", async () => {
  const { questions, asked } = open();
  const answers = [questions.ask(command, never), questions.ask(command, never)];
  const ids = [await asked(), await asked()];
  for (const id of [...ids].toReversed()) questions.answer(answerTo(id));
  questions.answer(answerTo("of nobody"));
  expect((await Promise.all(answers)).map(({ requestId }) => requestId)).toEqual(ids);
});

test("the end of the session, or of the caller's patience, is no answer", async () => {
  const { questions } = open();
  const leaving = new AbortController();
  const left = questions.ask(command, leaving.signal);
  leaving.abort(new Error("left"));
  await expect(left).rejects.toThrow("left");
  const waiting = questions.ask(command, never);
  questions.close();
  await expect(waiting).rejects.toThrow("the node's link ended before it answered; ask again");
  await expect(questions.ask(command, never)).rejects.toThrow("the node's link ended");
});
