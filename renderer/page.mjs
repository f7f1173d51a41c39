// Allure's page, without the one thing that it would fetch when somebody opens it: a script that counts visitors.
import AwesomePlugin from "@allurereport/plugin-awesome";

const ELSEWHERE = /<script[^>]* src="https?:[^>]*><\/script>/g;

const files = (inner) => ({
  addFile: (path, data) =>
    inner.addFile(path, path === "index.html" ? Buffer.from(data.toString("utf8").replace(ELSEWHERE, "")) : data),
});

export default class Page extends AwesomePlugin {
  constructor(options) {
    super(options);
    const { done } = this;
    this.done = (context, store) => done({ ...context, reportFiles: files(context.reportFiles) }, store);
  }
}
