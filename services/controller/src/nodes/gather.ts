// Makes one statement of what many ask for at the same time.

/**
 * One run at a time; what is asked for meanwhile goes into the next one together, at most `limit` at once. A run that fails is made again
 * for each of its items alone, so that one cannot spoil it for all.
 */
export function gather<T, R>(run: (items: readonly T[]) => Promise<readonly R[]>, limit: number): (item: T) => Promise<R> {
  const waiting: { readonly item: T; readonly answer: PromiseWithResolvers<R> }[] = [];
  let isRunning = false;

  async function alone({ item, answer }: (typeof waiting)[number]): Promise<void> {
    try {
      answer.resolve((await run([item]))[0] as R); // one answer per item
    } catch (error) {
      answer.reject(error);
    }
  }

  async function runAll(): Promise<void> {
    isRunning = true;
    while (waiting.length > 0) {
      const batch = waiting.splice(0, limit);
      const answers = batch.length > 1 ? await run(batch.map(({ item }) => item)).catch(() => undefined) : undefined;
      if (answers) batch.forEach(({ answer }, index) => answer.resolve(answers[index] as R));
      else for (const each of batch) await alone(each);
    }
    isRunning = false;
  }

  return (item) => {
    const answer = Promise.withResolvers<R>();
    waiting.push({ item, answer });
    if (!isRunning) void runAll();
    return answer.promise;
  };
}
