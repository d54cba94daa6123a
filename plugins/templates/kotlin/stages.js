// The stages under the names of the contract: another one is another line.

import * as plugin from "./generated/js/plugin.mjs";

export const configure = {
  configure() {
    try {
      return plugin.configure();
    } catch (error) {
      throw error.message;
    }
  },
};
export const onRcpt = { rcpt: plugin.rcpt };
export const onData = { data: plugin.data };
