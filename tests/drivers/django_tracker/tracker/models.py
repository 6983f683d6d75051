from django.db import models


class Project(models.Model):
    name = models.CharField(max_length=100)
    settings = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)


class Task(models.Model):
    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    title = models.CharField(max_length=200)
    done = models.BooleanField(default=False)
    points = models.IntegerField(default=1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "title"], name="task_title_in_project")]
