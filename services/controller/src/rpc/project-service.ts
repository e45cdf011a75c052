// ProjectService: the API's words around projects, their members, API tokens and registry credentials.
import type { ProjectServiceImplementation } from "@pitwall/proto/pitwall/v1/project.ts";
import { invalid } from "@pitwall/runtime";
import type { Credentials } from "../credentials/credentials.ts";
import type { Members } from "../projects/members.ts";
import type { Projects } from "../projects/projects.ts";
import type { Tokens } from "../tokens/tokens.ts";
import { userOf, type CallerContext } from "./identity.ts";
import type { Pages } from "./page.ts";
import { isTokenMethod } from "./policy.ts";

export interface ProjectParts {
  readonly projects: Projects;
  readonly members: Members;
  readonly tokens: Tokens;
  readonly credentials: Credentials;
  readonly pages: Pages;
}

export function projectService({
  projects,
  members,
  tokens,
  credentials,
  pages,
}: ProjectParts): ProjectServiceImplementation<CallerContext> {
  return {
    createProject: async (request, context) => ({ project: await projects.create(userOf(context), request) }),
    getProject: async ({ project }, context) => ({ project: await projects.get(userOf(context), project) }),
    async listProjects(request, context) {
      const { all } = request;
      const { limit, after, cut } = pages(userOf(context), ["ListProjects", all], request);
      const { page, nextPageToken } = cut(await projects.list(userOf(context), { all, limit: limit + 1, after }), ({ name }) => name);
      return { projects: page, nextPageToken };
    },
    updateProject: async (request, context) => ({ project: await projects.update(userOf(context), request) }),
    async deleteProject(request, context) {
      await projects.delete(userOf(context), request);
      return {};
    },

    async listProjectMembers(request, context) {
      const { project } = request;
      const { limit, after, cut } = pages(userOf(context), ["ListProjectMembers", project], request);
      const { page, nextPageToken } = cut(await members.list(userOf(context), project, limit + 1, after), ({ subject }) => subject);
      return { members: page, nextPageToken };
    },
    setProjectMember: async (request, context) => ({ member: await members.set(userOf(context), request) }),
    async removeProjectMember(request, context) {
      await members.remove(userOf(context), request);
      return {};
    },

    createApiToken(request, context) {
      request.methods.forEach((method, at) => {
        if (!isTokenMethod(method))
          throw invalid(
            `methods[${at}]`,
            `${JSON.stringify(method.slice(0, 80))} is no method that a token can call, such as VmService/GetVm`,
          );
      });
      return tokens.create(userOf(context), request);
    },
    async listApiTokens(request, context) {
      const { project } = request;
      const { limit, after, cut } = pages(userOf(context), ["ListApiTokens", project], request);
      const { page, nextPageToken } = cut(await tokens.list(userOf(context), project, limit + 1, after), ({ id }) => id);
      return { tokens: page, nextPageToken };
    },
    async revokeApiToken(request, context) {
      await tokens.revoke(userOf(context), request);
      return {};
    },

    setRegistryCredential: async (request, context) => ({ credential: await credentials.set(userOf(context), request) }),
    listRegistryCredentials: async ({ project }, context) => ({ credentials: await credentials.list(userOf(context), project) }),
    async deleteRegistryCredential(request, context) {
      await credentials.delete(userOf(context), request);
      return {};
    },
  };
}
