// Before any test of this process: plants the bug that the environment names, so that the test that guards against it can be seen to fail.
import { plantFrom, silentLog } from "@pitwall/runtime";

plantFrom(process.env, silentLog);
